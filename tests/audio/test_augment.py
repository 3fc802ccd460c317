"""Augmentation: exact SNRs, known slopes, filters that keep and remove what they say."""

import numpy as np
import pytest

from tests.audio.conftest import tone
from xmoe.audio.augment import (
    NOISE_EXPONENTS,
    add_noise,
    clip_peaks,
    coloured_noise,
    gain_db,
    high_pass,
    low_pass,
)

RATE = 16_000


def level_db(samples: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(np.square(samples, dtype=np.float64))))


@pytest.mark.parametrize("color", NOISE_EXPONENTS)
@pytest.mark.parametrize("snr_db", [-10.0, 0.0, 25.0])
def test_noise_is_as_loud_as_asked(color, snr_db, rng):
    clean = tone(duration_s=2.0)
    noisy = add_noise(clean, snr_db=snr_db, color=color, rng=rng)
    assert level_db(clean) - level_db(noisy - clean) == pytest.approx(snr_db, abs=0.01)
    assert noisy.dtype == np.float32


@pytest.mark.parametrize(("color", "slope"), [("white", 0.0), ("pink", -3.01), ("brown", -6.02)])
def test_noise_falls_by_its_slope_per_octave(color, slope, rng):
    noise = coloured_noise(1 << 18, exponent=NOISE_EXPONENTS[color], rng=rng)
    power = np.abs(np.fft.rfft(noise)) ** 2
    octaves = [level_db(np.sqrt(power[2**k : 2 ** (k + 1)])) for k in range(9, 16)]
    assert np.polyfit(range(7), octaves, 1)[0] == pytest.approx(slope, abs=0.1)
    assert np.mean(noise**2) == pytest.approx(1.0)


def test_the_same_generator_state_gives_the_same_noise():
    noisy = [add_noise(tone(), snr_db=0.0, rng=np.random.default_rng(7)) for _ in range(2)]
    np.testing.assert_array_equal(*noisy)


def test_silence_has_no_snr_and_stays_silent(rng):
    assert not add_noise(np.zeros(100, dtype=np.float32), snr_db=0.0, rng=rng).any()


@pytest.mark.parametrize("fraction", [0.01, 0.2, 1.0])
def test_the_asked_share_of_samples_reaches_the_new_peak(fraction, rng):
    samples = rng.standard_normal(10_000).astype(np.float32)
    clipped = clip_peaks(samples, fraction=fraction)
    share = np.mean(np.abs(clipped) >= np.abs(clipped).max() * (1 - 1e-6))
    assert share == pytest.approx(fraction, abs=0.002)
    quiet = np.abs(samples) < np.abs(clipped).max()
    np.testing.assert_array_equal(clipped[quiet], samples[quiet])


def test_clipping_nothing_copies():
    samples = tone()
    copy = clip_peaks(samples, fraction=0.0)
    np.testing.assert_array_equal(copy, samples)
    assert copy is not samples


@pytest.mark.parametrize(
    ("filtered", "frequency_hz", "gain"),
    [
        (low_pass, 1000.0, 0.0),
        (low_pass, 2000.0, -3.01),
        (low_pass, 4000.0, -48.0),
        (high_pass, 4000.0, 0.0),
        (high_pass, 2000.0, -3.01),
        (high_pass, 1000.0, -48.0),
    ],
)
def test_filters_weigh_as_butterworth(filtered, frequency_hz, gain):
    clean = tone(frequency_hz=frequency_hz, duration_s=2.0)
    got = filtered(clean, cutoff_hz=2000.0, sample_rate_hz=RATE)
    inner = slice(4000, -4000)
    assert level_db(got[inner]) - level_db(clean[inner]) == pytest.approx(gain, abs=0.5)


def test_filters_do_not_delay():
    pulse = np.zeros(2001, dtype=np.float32)
    pulse[1000] = 1.0
    got = low_pass(pulse, cutoff_hz=3000.0, sample_rate_hz=RATE)
    assert np.argmax(got) == 1000
    np.testing.assert_allclose(got, got[::-1], atol=1e-6)


@pytest.mark.parametrize("length", [0, 1, 2, 5])
def test_short_clips_are_filtered_too(length):
    samples = np.ones(length, dtype=np.float32)
    np.testing.assert_allclose(
        low_pass(samples, cutoff_hz=1000.0, sample_rate_hz=RATE), samples, atol=1e-6
    )
    np.testing.assert_allclose(
        high_pass(samples, cutoff_hz=1000.0, sample_rate_hz=RATE), 0.0, atol=1e-6
    )


def test_gain_is_in_decibels():
    assert level_db(gain_db(tone(), 6.0)) - level_db(tone()) == pytest.approx(6.0, abs=1e-4)
    assert gain_db(tone(), -6.0).dtype == np.float32
