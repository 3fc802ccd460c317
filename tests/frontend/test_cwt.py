"""The scalogram against the naive FFT transform at the full rate, and its two resolutions."""

import numpy as np
import pytest
import torch

from xmoe.base.config import SpectroConfig
from xmoe.frontend.cwt import OMEGA0, Cwt

CONFIG = SpectroConfig(
    frontend="cwt", sample_rate_hz=8000, fmin_hz=80.0, fmax_hz=3500.0, num_bins=40, hop_length=80
)


def naive_power(x: np.ndarray, centers_hz: np.ndarray) -> np.ndarray:
    """Return |W|^2 [F, S]: every wavelet's whole spectrum (Torrence and Compo 1998), full rate."""
    size = 4 * len(x)
    frequencies_hz = np.fft.fftfreq(size, 1 / 8000)
    scaled = OMEGA0 * frequencies_hz / centers_hz[:, None]
    wavelets = 2 * np.exp(-0.5 * (scaled - OMEGA0) ** 2) * (frequencies_hz > 0)
    return np.abs(np.fft.ifft(np.fft.fft(x, size) * wavelets))[:, : len(x)] ** 2


def test_power_is_the_naive_transforms_averaged_over_hops():
    x = np.random.default_rng(0).standard_normal(8000)
    frontend = Cwt(CONFIG)
    full = naive_power(x, frontend.centers_hz.numpy())
    expected = full[:, 40:-40].reshape(40, 99, 80).mean(axis=2)
    got = frontend.power(torch.from_numpy(x)[None])[0, :, 1:100].numpy()
    assert np.abs(got - expected).sum() < 0.03 * expected.sum()
    assert np.corrcoef(got.ravel(), expected.ravel())[0, 1] > 0.999


@pytest.mark.parametrize("row", [5, 20, 35])
def test_a_tone_is_as_wide_as_the_wavelet_says(row):
    frontend = Cwt(CONFIG)
    tone_hz = float(frontend.centers_hz[row])
    x = torch.sin(2 * torch.pi * tone_hz * torch.arange(8000) / 8000)
    power = frontend.power(x[None])[0, :, 40:60].mean(dim=1)
    offset = (frontend.centers_hz - tone_hz) / frontend.deviations_hz
    expected = torch.exp(-offset.square()).float()
    near = offset.abs() < 2
    torch.testing.assert_close(power[near], expected[near], rtol=0.03, atol=1e-3)
