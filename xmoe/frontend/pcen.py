"""Mel power with per-channel energy normalisation in place of dB.

Each bin is divided by a running mean of itself, which removes stationary noise and the recorder's
response (Wang 2017, arXiv 1607.05666; settings of Lostanlen 2019, IEEE SPL 26(1)). Departs from the
paper in three ways: magnitudes are relative to the clip's own peak, so that gain does not matter;
the running mean starts at the clip's mean and not at its first frame, so that a sound at the start
is not lost; and the recursion runs as matrix products over blocks of frames.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from xmoe.base.config import SpectroConfig
from xmoe.frontend.base import clip_peak, standardise
from xmoe.frontend.mel import LogMel

GAIN = 0.98
BIAS = 2.0
EXPONENT = 0.5
TIME_CONSTANT_S = 0.4
_BLOCK = 128  # frames per matrix product; the table grows with their square


class Pcen(LogMel):
    """Mel power as in ``LogMel``, compressed by PCEN and then to z-scores of the clip."""

    def __init__(self, config: SpectroConfig) -> None:
        super().__init__(config)
        self.smoothing = smoothing_coefficient(TIME_CONSTANT_S * config.frame_rate_hz)

    def _compress(self, power: Tensor, mask: Tensor | None) -> Tensor:
        if mask is not None:
            power = power * mask
        floor = 10.0 ** (self.config.floor_db / 10.0)
        magnitude = (power / clip_peak(power, mask)).clamp_min(floor).sqrt()
        if mask is None:
            start = magnitude.mean(dim=-1)
        else:
            start = (magnitude * mask).sum(dim=-1) / mask.sum(dim=-1)
        return standardise(pcen(magnitude, start, self.smoothing, floor=math.sqrt(floor)), mask)


def smoothing_coefficient(time_constant_frames: float) -> float:
    """Weight b of the newest frame for a time constant in frames (as in librosa)."""
    squared = time_constant_frames**2
    return (math.sqrt(1.0 + 4.0 * squared) - 1.0) / (2.0 * squared)


def pcen(magnitude: Tensor, start: Tensor, smoothing: float, *, floor: float) -> Tensor:
    """PCEN of magnitudes [..., T] whose running mean starts from ``start`` [...]."""
    mean = smooth(magnitude, start, smoothing)
    gained = magnitude * (floor + mean).pow(-GAIN)
    compressed: Tensor = (gained + BIAS).pow(EXPONENT) - BIAS**EXPONENT
    return compressed


def smooth(values: Tensor, start: Tensor, smoothing: float) -> Tensor:
    """m[t] = (1 - b) m[t - 1] + b values[t] with m[-1] = ``start``, [..., T].

    Within a block of frames the recursion is one triangular matrix product; only the state at the
    end of each block is carried over.
    """
    frames = values.shape[-1]
    table = _recursion_table(smoothing, min(frames, _BLOCK), values.dtype, values.device)
    blocks = []
    for block in values.split(_BLOCK, dim=-1):
        size = block.shape[-1]
        state_and_values = torch.cat([start[..., None], block], dim=-1)
        blocks.append(torch.matmul(state_and_values, table[: size + 1, :size]))
        start = blocks[-1][..., -1]
    return torch.cat(blocks, dim=-1)


@lru_cache(maxsize=16)
def _recursion_table(
    smoothing: float, size: int, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """[1 + size, size]: what the start state and each value add to each frame.

    A normal tensor even if inference asks first: one made in inference mode cannot be trained with.
    """
    with torch.inference_mode(False):
        frames = torch.arange(size, dtype=torch.float64)
        lag = frames[None, :] - frames[:, None]
        decay = (1.0 - smoothing) ** lag.clamp_min(0) * (lag >= 0)
        carried = (1.0 - smoothing) ** (frames + 1)
        return torch.cat([carried[None], smoothing * decay]).to(device, dtype)
