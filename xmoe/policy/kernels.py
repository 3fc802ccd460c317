"""Compressed spectrogram [F, T] -> features [D] by random convolution kernels, nothing learned.

As MiniRocket (Dempster 2021, KDD) with 2-D kernels: Gaussian 7 x 7 kernels without mean, at four
dilations, each followed by two poolings over time in eight bands of frequency, the maximum and the
share of positive cells. Departs from it in keeping the frequency axis, because sounds shift in time
but not in pitch, and in adding the mean, deviation and maximum of every row.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

DILATIONS: tuple[tuple[int, int], ...] = ((1, 1), (1, 3), (2, 1), (2, 4))
KERNELS_PER_DILATION = 64
KERNEL_SIZE = 7
NUM_BANDS = 8
MAX_FRAMES = 2048
_BATCH = 16


class KernelBank:
    """``count`` random kernels for each dilation; the same seed gives the same kernels."""

    def __init__(self, *, seed: int = 0, count: int = KERNELS_PER_DILATION) -> None:
        generator = torch.Generator().manual_seed(seed)
        shape = (len(DILATIONS), count, 1, KERNEL_SIZE, KERNEL_SIZE)
        weights = torch.randn(shape, generator=generator)
        weights -= weights.mean(dim=(-2, -1), keepdim=True)
        self.weights = weights / weights.square().sum(dim=(-2, -1), keepdim=True).sqrt()
        self.biases = torch.randn(shape[:2], generator=generator)

    def measure(self, specs: Tensor) -> Tensor:
        """Return features [B, D] of spectrograms [B, F, T] with values around -1..1.

        Frames beyond 2048 are averaged in twos, threes, ... until they fit.
        """
        with torch.no_grad():
            if specs.shape[-1] > MAX_FRAMES:
                specs = functional.avg_pool1d(specs, -(-specs.shape[-1] // MAX_FRAMES))
            parts = [specs.mean(2), specs.std(2, correction=0), specs.amax(2)]
            for weight, bias, dilation in zip(self.weights, self.biases, DILATIONS, strict=True):
                reach = (KERNEL_SIZE - 1) // 2
                cells = functional.conv2d(
                    specs[:, None],
                    weight,
                    bias,
                    stride=2,
                    padding=(reach * dilation[0], reach * dilation[1]),
                    dilation=dilation,
                )
                parts.append(functional.adaptive_max_pool2d(cells, (NUM_BANDS, 1)).flatten(1))
                positive = (cells > 0).to(cells.dtype)
                parts.append(functional.adaptive_avg_pool2d(positive, (NUM_BANDS, 1)).flatten(1))
            return torch.cat(parts, dim=1)

    def measure_all(self, specs: Sequence[Tensor]) -> npt.NDArray[np.float64]:
        """Return features [n, D] of spectrograms [F, T_i], those of equal length together."""
        by_length: dict[int, list[int]] = {}
        for index, spec in enumerate(specs):
            by_length.setdefault(spec.shape[-1], []).append(index)
        rows: dict[int, npt.NDArray[np.float32]] = {}
        for members in by_length.values():
            for first in range(0, len(members), _BATCH):
                batch = members[first : first + _BATCH]
                features = self.measure(torch.stack([specs[index] for index in batch]).float())
                rows |= dict(zip(batch, features.cpu().numpy(), strict=True))
        return np.stack([rows[index] for index in range(len(specs))]).astype(np.float64)
