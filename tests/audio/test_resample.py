"""Resampling: tones keep their level, what cannot be kept is gone, types and lengths are kept."""

import numpy as np
import pytest
import torch
from torchaudio.transforms import Resample

from xmoe.audio.resample import MAX_KERNEL_VALUES, kernel_values, resample
from xmoe.base.errors import ConfigError

RATES = [(44_100, 16_000), (8_000, 16_000), (48_000, 16_000), (44_100, 48_000), (16_000, 16_001)]


def sine(frequency_hz: float, rate: int, duration_s: float = 1.0) -> np.ndarray:
    times = np.arange(round(duration_s * rate)) / rate
    return np.sin(2 * np.pi * frequency_hz * times).astype(np.float32)


def middle(samples: np.ndarray) -> np.ndarray:
    return samples[len(samples) // 10 : -len(samples) // 10]


@pytest.mark.parametrize(("from_hz", "to_hz"), RATES)
@pytest.mark.parametrize("share", [0.05, 0.5, 0.85])
def test_a_tone_below_nyquist_is_the_same_tone(from_hz, to_hz, share):
    frequency_hz = share * min(from_hz, to_hz) / 2
    got = resample(sine(frequency_hz, from_hz), from_hz=from_hz, to_hz=to_hz)
    np.testing.assert_allclose(middle(got), middle(sine(frequency_hz, to_hz)), atol=2e-3)


@pytest.mark.parametrize(("from_hz", "to_hz"), [(44_100, 16_000), (48_000, 8_000)])
def test_a_tone_above_the_new_nyquist_is_gone(from_hz, to_hz):
    got = resample(sine(0.54 * to_hz, from_hz), from_hz=from_hz, to_hz=to_hz)
    assert 20 * np.log10(np.sqrt(2 * np.mean(middle(got) ** 2))) < -60.0


@pytest.mark.parametrize(("from_hz", "to_hz"), [*RATES, (44_100, 44_099)])
def test_length_is_the_ratio_rounded_up(from_hz, to_hz):
    got = resample(np.zeros(12_345, dtype=np.float32), from_hz=from_hz, to_hz=to_hz)
    assert len(got) == -(-12_345 * to_hz // from_hz)
    assert got.dtype == np.float32


def test_numpy_and_torch_agree_in_batches(rng):
    samples = rng.standard_normal((3, 2, 4000)).astype(np.float32)
    got = resample(torch.from_numpy(samples), from_hz=44_100, to_hz=16_000)
    assert isinstance(got, torch.Tensor)
    assert got.shape == (3, 2, 1452)
    one = resample(samples[1, 1], from_hz=44_100, to_hz=16_000)
    np.testing.assert_allclose(got[1, 1].numpy(), one, atol=1e-6)


@pytest.mark.parametrize(("from_hz", "to_hz"), [*RATES[:4], (44_100, 7350), (8000, 4000)])
@pytest.mark.parametrize("size", [1, 31, 5000])
def test_samples_are_those_of_the_convolution(rng, from_hz, to_hz, size):
    samples = torch.from_numpy(rng.standard_normal(size).astype(np.float32))
    plain = Resample(
        from_hz,
        to_hz,
        resampling_method="sinc_interp_kaiser",
        lowpass_filter_width=32,
        rolloff=0.96,
        beta=12.0,
    )
    got = resample(samples, from_hz=from_hz, to_hz=to_hz)
    torch.testing.assert_close(got, plain(samples), atol=2e-6, rtol=0.0)


def test_awkward_ratios_take_the_other_way_and_agree_with_the_common_one():
    assert kernel_values(44_099, 44_100) > MAX_KERNEL_VALUES > kernel_values(160, 441)
    got = resample(sine(1000.0, 44_100), from_hz=44_100, to_hz=44_099)
    np.testing.assert_allclose(middle(got), middle(sine(1000.0, 44_099)), atol=2e-3)


def test_the_same_rate_changes_nothing():
    samples = sine(100.0, 8000)
    np.testing.assert_array_equal(resample(samples, from_hz=8000, to_hz=8000), samples)
    assert resample(torch.zeros(5).double(), from_hz=7, to_hz=7).dtype == torch.float32


def test_nothing_stays_nothing():
    assert resample(np.zeros(0, dtype=np.float32), from_hz=8000, to_hz=16_000).shape == (0,)


def test_rates_must_be_positive():
    with pytest.raises(ConfigError, match="0 Hz"):
        resample(np.zeros(9, dtype=np.float32), from_hz=0, to_hz=16_000)


@pytest.mark.gpu
def test_the_device_of_the_samples_is_kept():
    got = resample(torch.zeros(2, 4410, device="cuda"), from_hz=44_100, to_hz=16_000)
    assert (got.device.type, got.shape) == ("cuda", (2, 1600))
