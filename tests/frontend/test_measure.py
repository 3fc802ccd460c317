"""Power of a whole clip and of its segments: the same cells, at any rate, in blocks of any size."""

import numpy as np
import pytest
import torch

from tests.fixtures.runs import RATE_HZ, make_sound, tiny_config
from xmoe.audio.segment import Grid
from xmoe.frontend import measure
from xmoe.frontend.registry import build_frontend


@pytest.fixture
def frontend():
    return build_frontend(tiny_config().spectro).eval()


def cut(samples, rate_hz=RATE_HZ):
    return Grid.of(rate_hz, segment_s=0.4, hop_s=0.2).cut(samples)


def test_a_segment_is_measured_as_a_clip_of_its_own(frontend):
    segments = cut(make_sound(1.0, seed=1))
    power, valid = measure.measure_segments(segments, frontend)
    frames = frontend.config.num_frames
    assert power.shape == (4, frontend.config.num_bins, frames)
    assert valid.tolist() == [frames] * 4
    for one, segment in zip(power, segments, strict=True):
        whole = measure.measure_power(segment.samples, RATE_HZ, frontend)
        torch.testing.assert_close(one, whole[:, :frames])


def test_the_size_of_a_block_changes_nothing(frontend, monkeypatch):
    segments = cut(make_sound(2.0, seed=2))
    together = measure.measure_segments(segments, frontend)[0]
    monkeypatch.setattr(measure, "SAMPLES_AT_ONCE", 2 * len(segments[0].samples))
    torch.testing.assert_close(measure.measure_segments(segments, frontend)[0], together)


@pytest.mark.parametrize("rate_hz", [RATE_HZ, 2 * RATE_HZ, 11_025])
def test_a_tone_lies_in_its_bin_at_any_rate(frontend, rate_hz):
    time_s = np.arange(rate_hz) / rate_hz
    tone = np.sin(2 * np.pi * 1500.0 * time_s).astype(np.float32)
    loudest = int(measure.measure_power(tone, rate_hz, frontend).mean(1).argmax())
    centers = frontend.bin_centers_hz
    assert loudest == int((centers - 1500.0).abs().argmin())


def test_short_power_is_padded_with_silence_at_its_end():
    power, valid = measure.pad_frames(torch.ones(2, 3, 4), 6)
    assert power[0, 0].tolist() == [1.0, 1.0, 1.0, 1.0, 0.0, 0.0]
    assert (power.shape, valid.tolist()) == ((2, 3, 6), [4, 4])
