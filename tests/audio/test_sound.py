"""Sound in 16 bits: what a row loses, lengths and rates side by side, rows picked and joined."""

import numpy as np
import pytest
import torch

from xmoe.audio.segment import Segment
from xmoe.audio.sound import LEVELS, hold_sound, join_sounds, to_levels


def make_segments(*shapes, level=0.1):
    rng = np.random.default_rng(0)
    return [
        Segment((level * rng.standard_normal(size)).astype(np.float32), rate, 0)
        for size, rate in shapes
    ]


@pytest.mark.parametrize("level", [1e-6, 0.1, 30.0])
def test_a_row_is_read_back_within_half_a_level_however_quiet(level):
    segments = make_segments((50, 8000), (80, 16_000), level=level)
    sound = hold_sound(segments)
    assert sound.samples.dtype == torch.int16
    assert sound.samples.shape == (2, 80)
    for row, segment in enumerate(segments):
        samples, rate_hz = sound.read(row)
        assert rate_hz == segment.sample_rate_hz
        assert samples.dtype == np.float32
        peak = float(np.abs(segment.samples).max())
        assert samples == pytest.approx(segment.samples, abs=0.51 * peak / LEVELS)


def test_silence_stays_silent():
    levels, scale = to_levels(np.zeros(5, np.float32))
    assert not levels.any()
    assert scale > 0
    assert not hold_sound([Segment(np.zeros(5, np.float32), 8000, 0)]).read(0)[0].any()


def test_what_is_shorter_is_followed_by_zeros_that_are_not_read():
    sound = hold_sound(make_segments((3, 8000), (9, 8000)))
    assert not sound.samples[0, 3:].any()
    assert len(sound.read(0)[0]) == 3


def test_rows_are_picked_by_number_and_by_slice():
    sound = hold_sound(make_segments((4, 8000), (6, 16_000), (5, 44_100)))
    picked = sound.rows(torch.tensor([2, 0]))
    assert len(picked) == 2
    assert picked.rate_hz.tolist() == [44_100, 8000]
    assert (picked.read(0)[0] == sound.read(2)[0]).all()
    assert sound.rows(slice(1, 3)).length.tolist() == [6, 5]


def test_repeated_rows_follow_each_other():
    sound = hold_sound(make_segments((4, 8000), (6, 16_000)))
    twice = sound.repeat(2)
    assert twice.rate_hz.tolist() == [8000, 16_000, 8000, 16_000]
    assert torch.equal(twice.samples[2:], sound.samples)


def test_joined_rows_are_those_of_all_parts():
    parts = [hold_sound(make_segments(shape)) for shape in ((4, 8000), (9, 16_000), (6, 8000))]
    joined = join_sounds(parts)
    assert joined.samples.shape == (3, 9)
    for row, part in enumerate(parts):
        samples, rate_hz = joined.read(row)
        assert (samples == part.read(0)[0]).all()
        assert rate_hz == part.read(0)[1]
