"""Mel-scale power, [B, S] -> [B, F, T]: the front end that the others must beat.

Filters are torchaudio's HTK triangles (O'Shaughnessy 1987). Departs from them if a narrow band or a
short FFT makes a side of a triangle narrower than one bin: such a triangle is widened to its
neighbouring bins, so that it interpolates the spectrum instead of being empty.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor
from torchaudio.functional import melscale_fbanks

from xmoe.base.config import SpectroConfig
from xmoe.base.units import hz_to_mel, mel_to_hz
from xmoe.frontend.stft import FilteredStft, fft_bins_hz


class LogMel(FilteredStft):
    """Mel rows between ``fmin_hz`` and ``fmax_hz``, each peaking at 1."""

    def __init__(self, config: SpectroConfig) -> None:
        super().__init__(config, mel_points_hz(config)[1:-1], mel_filters(config))


def mel_points_hz(config: SpectroConfig) -> Tensor:
    """Corners of the triangles in Hz, [F + 2], equally spaced in mel."""
    low, high = (float(hz_to_mel(hz)) for hz in (config.fmin_hz, config.fmax_hz))
    mels = torch.linspace(low, high, config.num_bins + 2, dtype=torch.float64)
    return torch.from_numpy(mel_to_hz(mels.numpy()))


def mel_filters(config: SpectroConfig) -> Tensor:
    """The filter bank [n_fft // 2 + 1, F]; no column is empty."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "At least one mel filterbank has all zero values")
        filters = melscale_fbanks(
            config.n_fft // 2 + 1,
            config.fmin_hz,
            config.fmax_hz,
            config.num_bins,
            config.sample_rate_hz,
        )
    points_hz = mel_points_hz(config)
    low, centre, high = points_hz[:-2], points_hz[1:-1], points_hz[2:]
    bins_hz = fft_bins_hz(config)
    step_hz = float(bins_hz[1])
    narrow = (centre - low < step_hz) | (high - centre < step_hz)
    rising = (centre - low).clamp_min(step_hz)
    falling = (high - centre).clamp_min(step_hz)
    offset = bins_hz[:, None] - centre
    widened = torch.minimum(1 + offset / rising, 1 - offset / falling).clamp_min(0.0)
    return torch.where(narrow, widened.float(), filters)
