"""PCEN against librosa, and the blocked recursion against a slow loop."""

import librosa
import numpy as np
import pytest
import torch

from xmoe.base.config import SpectroConfig
from xmoe.frontend.pcen import (
    BIAS,
    EXPONENT,
    GAIN,
    Pcen,
    pcen,
    smooth,
    smoothing_coefficient,
)


def slow_smooth(values: np.ndarray, start: np.ndarray, smoothing: float) -> np.ndarray:
    out = np.empty_like(values)
    state = start
    for frame in range(values.shape[-1]):
        state = (1 - smoothing) * state + smoothing * values[..., frame]
        out[..., frame] = state
    return out


@pytest.mark.parametrize("frames", [1, 127, 128, 129, 500])
@pytest.mark.parametrize("smoothing", [0.02, 0.5, 1.0])
def test_the_blocked_recursion_is_the_loop(frames, smoothing):
    rng = np.random.default_rng(frames)
    values, start = rng.random((2, 3, frames)), rng.random((2, 3))
    got = smooth(torch.from_numpy(values), torch.from_numpy(start), smoothing)
    np.testing.assert_allclose(got.numpy(), slow_smooth(values, start, smoothing), rtol=1e-9)


@pytest.mark.parametrize("time_constant_frames", [1.0, 40.0, 300.0])
def test_pcen_is_librosas(time_constant_frames):
    magnitude = np.random.default_rng(0).random((16, 300))
    smoothing = smoothing_coefficient(time_constant_frames)
    start = magnitude.mean(axis=1)
    expected = librosa.pcen(
        magnitude, b=smoothing, gain=GAIN, bias=BIAS, power=EXPONENT, eps=1e-4,
        zi=(1 - smoothing) * start[:, None],
    )  # fmt: skip
    got = pcen(torch.from_numpy(magnitude), torch.from_numpy(start), smoothing, floor=1e-4)
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-5)


def test_a_stationary_tone_fades_and_an_onset_stays():
    times_s = torch.arange(32000) / 16000
    hum = torch.sin(2 * torch.pi * 500 * times_s)
    event = 0.1 * torch.sin(2 * torch.pi * 3000 * times_s) * (times_s > 1.5)
    frontend = Pcen(SpectroConfig(frontend="pcen", segment_s=2.0))
    spec = frontend((hum + event)[None])[0]
    nearest = [int((frontend.bin_centers_hz - hz).abs().argmin()) for hz in (500, 3000)]
    assert float(spec[nearest[1], 153]) > 1.5 * float(spec[nearest[0], 153])
