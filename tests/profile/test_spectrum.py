"""Spectral measures on signals whose band, noise and cut-off are known."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from xmoe.profile.spectrum import (
    MAX_CELLS,
    MIN_FRAME,
    band_limit_hz,
    effective_band,
    frame_length,
    measure_spectrum,
    noise_psd,
    psd_band_centers_hz,
    psd_bands_db,
    snr_proxy_db,
    spectral_flatness,
)

RATE = 16_000


def white(seconds=4.0, *, rate=RATE, level=0.1, seed=0):
    return level * np.random.default_rng(seed).standard_normal(round(seconds * rate))


def tone(frequency_hz, seconds=4.0, *, rate=RATE, level=0.1):
    """A sine with RMS ``level``."""
    time_s = np.arange(round(seconds * rate)) / rate
    return level * np.sqrt(2.0) * np.sin(2 * np.pi * frequency_hz * time_s)


def band_noise(low_hz, high_hz, seconds=4.0, *, rate=RATE, level=0.1, seed=0):
    """White noise with exactly nothing outside a band."""
    spectrum = np.fft.rfft(white(seconds, rate=rate, seed=seed))
    frequency_hz = np.fft.rfftfreq(round(seconds * rate), 1 / rate)
    spectrum[(frequency_hz < low_hz) | (frequency_hz > high_hz)] = 0.0
    samples = np.fft.irfft(spectrum)
    return level * samples / np.sqrt((samples**2).mean())


def to_pcm(samples, bits=16):
    """Round to the steps of a PCM file."""
    return np.round(samples * 2 ** (bits - 1)) / 2 ** (bits - 1)


@pytest.mark.parametrize(
    ("num_samples", "rate", "expected"),
    [(100_000, 8_000, 512), (100_000, 44_100, 2048), (800, 8_000, 128), (10, 8_000, MIN_FRAME)],
)
def test_frame_is_the_power_of_two_next_to_50_ms(num_samples, rate, expected):
    assert frame_length(num_samples, rate) == expected


@pytest.mark.parametrize("samples", [white(), tone(1000.0), band_noise(2000, 3000)])
def test_psd_integrates_to_the_mean_square(samples):
    spectrum = measure_spectrum(samples, RATE)
    bin_hz = spectrum.frequency_hz[1]
    assert spectrum.power.shape[1] == len(spectrum.psd) == len(spectrum.frequency_hz)
    assert_allclose(spectrum.psd.sum() * bin_hz, 0.01, rtol=0.03)


def test_constant_offset_does_not_count():
    plain = measure_spectrum(white(), RATE).psd
    shifted = measure_spectrum(white() + 0.5, RATE).psd
    assert_allclose(shifted, plain, atol=1e-12)


def test_long_clip_costs_bounded_memory_and_keeps_its_level():
    spectrum = measure_spectrum(white(300.0).astype(np.float32), RATE)
    assert spectrum.power.size <= MAX_CELLS
    assert_allclose(spectrum.psd.sum() * spectrum.frequency_hz[1], 0.01, rtol=0.03)


def test_clip_shorter_than_a_frame_is_padded():
    assert measure_spectrum(white(0.002), RATE).power.shape == (1, MIN_FRAME // 2 + 1)


@pytest.mark.parametrize(("low_hz", "high_hz"), [(300, 3400), (2000, 6000), (100, 1000)])
def test_effective_band_of_band_noise(low_hz, high_hz):
    low, high = effective_band(measure_spectrum(band_noise(low_hz, high_hz), RATE))
    width = high_hz - low_hz
    assert low == pytest.approx(low_hz + 0.01 * width, abs=40)
    assert high == pytest.approx(high_hz - 0.01 * width, abs=40)


def test_effective_band_of_white_noise_is_everything():
    low, high = effective_band(measure_spectrum(white(), RATE))
    assert low < 120
    assert high > 7900 - 20


def test_effective_band_sees_past_a_loud_rumble():
    samples = band_noise(20, 100, level=0.3) + band_noise(20, 5000, level=0.03, seed=1)
    _, high = effective_band(measure_spectrum(samples, RATE))
    assert high == pytest.approx(5000, rel=0.05)


def test_effective_band_ignores_the_gain():
    loud, quiet = (effective_band(measure_spectrum(g * white(), RATE)) for g in (1.0, 1e-3))
    assert loud == quiet


def test_silence_has_no_band():
    spectrum = measure_spectrum(np.zeros(RATE), RATE)
    assert effective_band(spectrum) is None
    assert spectral_flatness(spectrum) == 0.0
    assert snr_proxy_db(spectrum) == -20.0
    assert band_limit_hz(spectrum) is None
    assert set(psd_bands_db(spectrum)) == {-200.0}


def test_flatness_is_near_one_for_white_noise_and_near_zero_for_a_tone():
    assert spectral_flatness(measure_spectrum(white(), RATE)) > 0.95
    assert spectral_flatness(measure_spectrum(tone(1000.0), RATE)) < 1e-3


@pytest.mark.parametrize("frequency_hz", [440.0, 1234.5, 5000.0])
@pytest.mark.parametrize("snr_db", [0.0, 10.0, 20.0, 30.0])
def test_snr_of_a_steady_tone_in_white_noise(frequency_hz, snr_db):
    samples = tone(frequency_hz) + white(level=0.1 * 10 ** (-snr_db / 20))
    assert snr_proxy_db(measure_spectrum(samples, RATE)) == pytest.approx(snr_db, abs=1.0)


@pytest.mark.parametrize("snr_db", [0.0, 10.0, 20.0])
def test_snr_of_a_burst_of_broad_sound(snr_db):
    burst = white(seed=1)
    burst[: len(burst) // 2] = 0.0
    noise = white(level=np.sqrt((burst**2).mean()) * 10 ** (-snr_db / 20))
    assert snr_proxy_db(measure_spectrum(burst + noise, RATE)) == pytest.approx(snr_db, abs=1.5)


def test_snr_of_noise_alone_is_low_whatever_its_colour():
    brown = np.cumsum(white())
    brown -= np.convolve(brown, np.ones(801) / 801, mode="same")
    for samples in (white(), brown, band_noise(300, 3400)):
        assert snr_proxy_db(measure_spectrum(samples, RATE)) < -6.0


def test_snr_does_not_change_with_gain_or_padding():
    samples = tone(1000.0) + white(level=0.03)
    expected = snr_proxy_db(measure_spectrum(samples, RATE))
    assert snr_proxy_db(measure_spectrum(1e-3 * samples, RATE)) == pytest.approx(expected, abs=1e-6)
    padded = np.concatenate([samples, np.zeros(4 * RATE)])
    assert snr_proxy_db(measure_spectrum(padded, RATE)) == pytest.approx(expected, abs=0.5)


def test_noise_floor_is_the_noise_under_a_tone():
    noise = white(level=0.01)
    under_tone = noise_psd(measure_spectrum(tone(1000.0) + noise, RATE)).sum()
    assert_allclose(under_tone, measure_spectrum(noise, RATE).psd[1:].sum(), rtol=0.15)


@pytest.mark.parametrize("cutoff_hz", [2000, 4000, 6000])
@pytest.mark.parametrize("bits", [8, 16, 24])
def test_upsampled_file_is_found_with_its_true_band(cutoff_hz, bits):
    samples = to_pcm(band_noise(0, cutoff_hz), bits)
    found = band_limit_hz(measure_spectrum(samples, RATE), bits)
    assert found == pytest.approx(cutoff_hz, rel=0.05)


def test_upsampled_quiet_recording_is_found():
    samples = to_pcm(band_noise(0, 4000, level=0.005))
    assert band_limit_hz(measure_spectrum(samples, RATE)) == pytest.approx(4000, rel=0.05)


@pytest.mark.parametrize(
    "samples",
    [white(), tone(1000.0) + white(level=1e-3), np.cumsum(white(level=1e-3)), white(0.05)],
    ids=["white", "tone in noise", "brown", "very short"],
)
def test_full_band_recordings_have_no_limit(samples):
    assert band_limit_hz(measure_spectrum(to_pcm(samples), RATE)) is None


def test_low_pass_slope_over_a_noise_floor_is_no_codec():
    samples = band_noise(0, 3000) + white(level=3e-3, seed=1)
    assert band_limit_hz(measure_spectrum(to_pcm(samples), RATE)) is None


def test_anti_alias_filter_is_no_limit():
    samples = to_pcm(band_noise(0, 0.92 * RATE / 2))
    assert band_limit_hz(measure_spectrum(samples, RATE)) is None


def test_band_centres_are_a_sixth_of_an_octave_apart_below_nyquist():
    centers = psd_band_centers_hz(4000.0)
    assert centers[0] == 20.0
    assert centers[-1] <= 4000.0 < centers[-1] * 2 ** (1 / 6)
    assert_allclose(centers[6] / centers[0], 2.0)


def test_coarse_spectrum_of_white_noise_is_flat_at_its_density():
    levels = np.array(psd_bands_db(measure_spectrum(white(), RATE)))
    expected = 10 * np.log10(0.01 / (RATE / 2))
    assert len(levels) == len(psd_band_centers_hz(RATE / 2))
    assert_allclose(levels[12:], expected, atol=1.0)
