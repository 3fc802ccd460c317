"""Samples at one rate -> samples at another, without aliasing and with cached kernels.

Common ratios use torchaudio's windowed-sinc kernels on the samples' device, as one matrix product
of overlapping frames: seven times as fast as its convolution when a rate is divided by a whole
number. Ratios with a huge kernel bank (44 100 to 44 099 Hz) use scipy on the CPU. Both return
``ceil(S * to_hz / from_hz)`` samples.

Source: Smith 2002, Digital Audio Resampling (ccrma.stanford.edu/~jos/resample).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchaudio.transforms import Resample

from xmoe.base.errors import ConfigError

SamplesT = TypeVar("SamplesT", npt.NDArray[np.float32], Tensor)

MAX_KERNEL_VALUES = 4_000_000
_FILTER_WIDTH = 32
_ROLLOFF = 0.96
_KAISER_BETA = 12.0
# Least output samples of a frame, and frames multiplied at once (each is copied).
_PIECE, _PIECES = 32, 4096
_POLYPHASE_WIDTH = 48
_POLYPHASE_CUTOFF = 0.95
_POLYPHASE_BETA = 8.0


def resample(samples: SamplesT, *, from_hz: int, to_hz: int) -> SamplesT:
    """Resample [S] numpy or [..., S] torch samples; the result is float32 and of the same type.

    Raises ``ConfigError`` for rates that are not positive.
    """
    if from_hz <= 0 or to_hz <= 0:
        raise ConfigError(f"cannot resample from {from_hz} Hz to {to_hz} Hz")
    if isinstance(samples, np.ndarray):
        source = np.ascontiguousarray(samples, dtype=np.float32)
        if from_hz == to_hz or source.shape[-1] == 0:
            return source
        return _resample_tensor(torch.from_numpy(source), from_hz, to_hz).numpy()
    tensor = samples.to(torch.float32)
    if from_hz == to_hz or tensor.shape[-1] == 0:
        return tensor
    return _resample_tensor(tensor, from_hz, to_hz)


def _resample_tensor(samples: Tensor, from_hz: int, to_hz: int) -> Tensor:
    common = math.gcd(from_hz, to_hz)
    up, down = to_hz // common, from_hz // common
    with torch.no_grad():
        if kernel_values(up, down) <= MAX_KERNEL_VALUES:
            return _steps(up, down, str(samples.device)).resample(samples)
        from scipy.signal import resample_poly  # rarely needed, slow to import

        filtered = resample_poly(
            samples.cpu().numpy(), up, down, axis=-1, window=_taps(max(up, down))
        )
        return torch.from_numpy(filtered.astype(np.float32)).to(samples.device)


def kernel_values(up: int, down: int) -> int:
    """Size of torchaudio's kernel bank for a reduced ratio ``up / down``."""
    half = math.ceil(_FILTER_WIDTH * down / (min(up, down) * _ROLLOFF))
    return up * (down + 2 * half)


@dataclass(frozen=True)
class _Steps:
    """``table`` [span, steps * up] maps a frame of input, one every ``steps * down``, to output.

    The first frame starts ``width`` samples before the first sample.
    """

    table: Tensor
    width: int
    up: int
    down: int

    def resample(self, samples: Tensor) -> Tensor:
        """``ceil(S * up / down)`` samples of [..., S]."""
        size = samples.shape[-1]
        span, made = self.table.shape
        count, hop = -(-size * self.up // self.down), made // self.up * self.down
        last = (-(-count // made) - 1) * hop
        padded = torch.nn.functional.pad(samples, (self.width, last + span - self.width - size))
        pieces = padded.unfold(-1, span, hop)
        parts = [part @ self.table for part in pieces.split(_PIECES, dim=-2)]
        return torch.cat(parts, dim=-2).flatten(-2)[..., :count]


@lru_cache(maxsize=64)
def _steps(up: int, down: int, device: str) -> _Steps:
    kernel = Resample(
        orig_freq=down,
        new_freq=up,
        resampling_method="sinc_interp_kaiser",
        lowpass_filter_width=_FILTER_WIDTH,
        rolloff=_ROLLOFF,
        beta=_KAISER_BETA,
    )
    taps = kernel.kernel[:, 0].T
    steps = max(_PIECE // up, 1)
    table = torch.zeros((steps - 1) * down + len(taps), steps, up)
    for step in range(steps):
        table[step * down : step * down + len(taps), step] = taps
    return _Steps(table.flatten(1).to(device), kernel.width, up, down)


@lru_cache(maxsize=2)
def _taps(longest: int) -> npt.NDArray[np.float64]:
    """The polyphase filter for a ratio whose larger side is ``longest``."""
    from scipy.signal import firwin

    count = 2 * _POLYPHASE_WIDTH * longest + 1
    cutoff = _POLYPHASE_CUTOFF / longest
    return np.asarray(firwin(count, cutoff, window=("kaiser", _POLYPHASE_BETA)), dtype=np.float64)
