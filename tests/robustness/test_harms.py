"""Each harm does what its level says, to a number, and leaves rate and length as they should be."""

import numpy as np
import pytest

from xmoe.base.config import SpectroConfig
from xmoe.robustness.harms import list_harms

RATE_HZ = 8000
HARMS = {one.name: one for one in list_harms(SpectroConfig(sample_rate_hz=RATE_HZ, fmax_hz=4000.0))}
TIME_S = np.arange(RATE_HZ) / RATE_HZ
TONE = (0.25 * np.sin(2 * np.pi * 440 * TIME_S)).astype(np.float32)


def harm(name, level, samples=TONE, seed=0):
    return HARMS[name].apply(samples, RATE_HZ, level, np.random.default_rng(seed))


def level_db(samples):
    return 10 * np.log10(np.mean(np.square(samples, dtype=np.float64)))


@pytest.mark.parametrize("name", sorted(HARMS))
def test_every_level_gives_a_finite_recording_of_the_same_length(name):
    for level in HARMS[name].levels:
        samples, rate_hz = harm(name, level)
        assert np.isfinite(samples).all()
        assert samples.dtype == np.float32
        assert len(samples) / rate_hz == pytest.approx(1.0, abs=1e-3)
        assert np.array_equal(samples, harm(name, level)[0])


@pytest.mark.parametrize("name", sorted(set(HARMS) - {"sample_rate"}))
def test_harsher_levels_are_less_like_the_recording(name):
    rough = TONE + 0.1 * np.random.default_rng(1).standard_normal(RATE_HZ)
    sound = (rough / np.abs(rough).max()).astype(np.float32)
    found = [np.corrcoef(harm(name, x, sound)[0], sound)[0, 1] for x in HARMS[name].levels]
    assert found == sorted(found, reverse=True)
    assert found[-1] < found[0]


@pytest.mark.parametrize("name", ["white_noise", "pink_noise"])
def test_noise_has_its_snr_and_is_the_same_at_every_level(name):
    noises = [harm(name, level)[0].astype(np.float64) - TONE for level in (20.0, 0.0)]
    assert level_db(TONE) - level_db(noises[0]) == pytest.approx(20.0, abs=0.05)
    assert np.corrcoef(*noises)[0, 1] == pytest.approx(1.0, abs=1e-4)


def test_a_lower_rate_is_a_lower_rate_and_a_higher_one_is_none():
    samples, rate_hz = harm("sample_rate", 2000.0)
    assert (len(samples), rate_hz) == (2000, 2000)
    assert harm("sample_rate", 16_000.0)[0] is TONE
    slow = SpectroConfig(sample_rate_hz=4000, fmax_hz=2000.0)
    (rates,) = [one.levels for one in list_harms(slow) if one.name == "sample_rate"]
    assert rates == (2000.0, 1000.0)
    slowest = SpectroConfig(sample_rate_hz=1000, fmax_hz=500.0)
    assert "sample_rate" not in {one.name for one in list_harms(slowest)}


def test_high_pass_removes_what_is_below():
    assert level_db(harm("high_pass", 1000.0)[0]) < level_db(TONE) - 40


def test_clipping_holds_its_share_at_the_peak():
    samples, _ = harm("clipping", 0.2)
    assert np.mean(np.abs(samples) >= np.abs(samples).max() - 1e-6) == pytest.approx(0.2, abs=0.02)


def test_too_loud_is_cut_off_and_too_quiet_loses_bits():
    assert np.mean(np.abs(harm("louder", 24.0)[0]) == 1.0) > 0.9
    quiet, _ = harm("quieter", -80.0)
    assert len(np.unique(quiet)) <= 2 * 3 + 1
    assert np.abs(quiet).max() == pytest.approx(1e-4, rel=0.1)


def test_fewer_bits_are_fewer_values():
    assert len(np.unique(harm("bits", 4.0)[0])) <= 15


def test_codec_loses_something_and_keeps_the_tone():
    coded, _ = harm("vorbis", 1.0)
    assert 0.9 < np.corrcoef(coded, TONE)[0, 1] < 1.0


@pytest.mark.parametrize("name", sorted(HARMS))
def test_silence_stays_silence(name):
    silence = np.zeros(RATE_HZ, np.float32)
    assert np.abs(harm(name, HARMS[name].levels[-1], silence)[0]).max() < 1e-3
