"""Time-domain measures on signals with known answers, and rows of real files."""

import math
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from xmoe.audio.dataset import Example
from xmoe.audio.quarantine import Quarantined
from xmoe.profile.clip_stats import (
    central_moments,
    excess_kurtosis,
    level_db,
    measure_example,
    measure_samples,
    silence_rate,
)

RATE = 16_000


def white(seconds=2.0, *, seed=0):
    return 0.1 * np.random.default_rng(seed).standard_normal(round(seconds * RATE))


def sine(seconds=2.0, *, level=1.0, frequency_hz=1000.0):
    return level * np.sin(2 * np.pi * frequency_hz * np.arange(round(seconds * RATE)) / RATE)


def kurtosis(samples):
    return excess_kurtosis(*central_moments(samples))


def test_full_scale_sine_is_minus_3_db():
    second, _ = central_moments(sine())
    assert level_db(second) == pytest.approx(-3.0103, abs=1e-3)


def test_offset_does_not_change_the_level():
    second, _ = central_moments(sine(level=0.1) + 0.7)
    assert level_db(second) == pytest.approx(-23.0103, abs=1e-3)


def test_level_has_a_floor():
    assert level_db(0.0) == -120.0


def test_moments_of_many_blocks_equal_those_of_one():
    samples = np.random.default_rng(0).standard_normal(3 * 2**20 + 17).astype(np.float32)
    second, fourth = central_moments(samples)
    centred = samples.astype(np.float64) - samples.mean(dtype=np.float64)
    assert second == pytest.approx((centred**2).mean(), rel=1e-12)
    assert fourth == pytest.approx((centred**4).mean(), rel=1e-12)


def test_kurtosis_of_sine_noise_and_silence():
    assert kurtosis(sine()) == pytest.approx(-1.5, abs=1e-3)
    assert kurtosis(white(20.0)) == pytest.approx(0.0, abs=0.05)
    assert kurtosis(np.zeros(RATE)) == 0.0
    assert kurtosis(np.empty(0)) == 0.0


@pytest.mark.parametrize("num_impulses", [1, 4, 40])
def test_kurtosis_of_impulses_is_samples_per_impulse(num_impulses):
    samples = np.zeros(RATE)
    samples[:: RATE // num_impulses] = 1.0
    assert kurtosis(samples) == pytest.approx(RATE / num_impulses - 3.0, rel=0.02)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.75])
def test_silence_rate_is_the_share_of_silent_frames(share):
    samples = white()
    samples[: round(share * len(samples))] = 0.0
    assert silence_rate(samples, RATE) == pytest.approx(share, abs=0.01)


def test_silence_is_relative_to_the_loudest_frame_and_ignores_an_offset():
    samples = white()
    samples[: len(samples) // 2] *= 1e-4
    assert silence_rate(samples, RATE) == pytest.approx(0.5, abs=0.01)
    assert silence_rate(samples + 0.2, RATE) == pytest.approx(0.5, abs=0.01)


def test_digital_silence_dither_and_nothing_are_silent():
    assert silence_rate(np.zeros(RATE), RATE) == 1.0
    assert silence_rate(1e-5 * white(), RATE) == 1.0
    assert silence_rate(np.empty(0), RATE) == 1.0


def test_clip_shorter_than_a_frame_is_one_frame():
    assert silence_rate(white()[:50], RATE) == 0.0


def test_silent_clip_has_no_band_and_finite_numbers():
    stats = measure_samples(np.zeros(RATE, np.float32), sample_rate_hz=RATE)
    assert stats.fmin_eff_hz is None
    assert stats.band_limit_hz is None
    assert stats.silence_rate == 1.0
    assert (stats.rms_db, stats.snr_db, stats.flatness, stats.kurtosis) == (-120.0, -20.0, 0.0, 0.0)


@pytest.mark.parametrize("num_samples", [1, 2, 63, 801])
def test_very_short_clips_have_finite_numbers(num_samples):
    stats = measure_samples(white()[:num_samples].astype(np.float32), sample_rate_hz=RATE)
    numbers = [value for value in vars(stats).values() if isinstance(value, float)]
    assert all(math.isfinite(value) for value in (*numbers, *stats.psd_db))


def test_row_of_a_clipped_stereo_file(tmp_path):
    loud = np.clip(sine(level=4.0, frequency_hz=100.0), -1.0, 1.0)
    sf.write(tmp_path / "a.wav", np.stack([loud, loud], axis=1), RATE, subtype="PCM_16")
    row = measure_example(tmp_path, Example("a.wav", "train", ("x", "y"), group="g"))
    assert (row.sample_rate_hz, row.channels, row.bit_depth, row.format) == (RATE, 2, 16, "WAV")
    assert (row.clip_id, row.label, row.split, row.group) == ("a.wav", "x;y", "train", "g")
    assert row.duration_s == 2.0
    assert row.clipping_rate == pytest.approx(1 - 2 * math.asin(0.25) / math.pi, abs=0.01)
    assert row.peak == pytest.approx(1.0, abs=1e-3)
    assert row.kurtosis < -1.5


def test_part_of_a_file_is_measured_alone(tmp_path):
    sf.write(tmp_path / "a.wav", np.concatenate([np.zeros(RATE), white(1.0)]), RATE)
    whole = measure_example(tmp_path, Example("a.wav", "train", ("x",)))
    part = measure_example(tmp_path, Example("a.wav", "train", ("x",), start_s=1.0, end_s=2.0))
    assert (whole.silence_rate, part.silence_rate) == (0.5, 0.0)
    assert part.clip_id == "a.wav@1-2"
    assert part.duration_s == 1.0


def test_bad_file_becomes_a_quarantine_row_without_the_path_of_this_machine(tmp_path):
    (tmp_path / "bad.wav").write_bytes(b"not audio at all" * 10)
    row = measure_example(tmp_path, Example("bad.wav", "train", ("x",)))
    assert isinstance(row, Quarantined)
    assert row.filepath == "bad.wav"
    assert row.code
    assert row.reason
    assert row.mend
    assert str(tmp_path) not in row.reason


def test_missing_file_becomes_a_quarantine_row():
    row = measure_example(Path("/nonexistent"), Example("a.wav", "train", ("x",)))
    assert isinstance(row, Quarantined)
    assert row.code == "missing"
