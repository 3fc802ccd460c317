"""Compressed spectrogram [F, T] -> features [D] by random convolution kernels, nothing learned.

As MiniRocket (Dempster 2021, KDD) with 2-D kernels: Gaussian 7 x 7 kernels without mean, at four
dilations, each followed by two poolings over time in eight bands of frequency, the maximum and the
share of positive cells. Departs from it in keeping the frequency axis, because sounds shift in time
but not in pitch, in adding the mean, deviation and maximum of every row, and in counting cells near
0 in part: rounding then moves no answer, and shares have gradients. A clip in several pieces is
pooled over all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from xmoe.base.layers import convolve_rows

DILATIONS: tuple[tuple[int, int], ...] = ((1, 1), (1, 3), (2, 1), (2, 4))
KERNELS_PER_DILATION = 64
KERNEL_SIZE = 7
STRIDE = 2
NUM_BANDS = 8
MAX_FRAMES = 2048  # bounds the time for long segments
# A cell counts in full from here on, and by half at 0.
RAMP = 0.1
# Of all clips that a GPU has at once: about 0.4 GB of patches and cells of 64 rows.
_GPU_FRAMES = 16 * MAX_FRAMES


class KernelBank:
    """``count`` random kernels for each dilation; the same seed gives the same kernels."""

    def __init__(self, *, seed: int = 0, count: int = KERNELS_PER_DILATION) -> None:
        generator = torch.Generator().manual_seed(seed)
        shape = (len(DILATIONS), count, 1, KERNEL_SIZE, KERNEL_SIZE)
        weights = torch.randn(shape, generator=generator)
        weights -= weights.mean(dim=(-2, -1), keepdim=True)
        self.weights = weights / weights.square().sum(dim=(-2, -1), keepdim=True).sqrt()
        self.biases = torch.randn(shape[:2], generator=generator)

    @property
    def count(self) -> int:
        return self.biases.shape[1]

    @property
    def total(self) -> int:
        return self.biases.numel()

    def num_features(self, num_bins: int) -> int:
        """D for spectrograms of ``num_bins`` rows."""
        return 3 * num_bins + 2 * NUM_BANDS * self.total

    def macs(self, num_bins: int, num_frames: int) -> int:
        cells = math.ceil(num_bins / STRIDE) * math.ceil(num_frames / STRIDE)
        return cells * self.total * KERNEL_SIZE**2

    def measure(self, specs: Tensor) -> Tensor:
        """Features [B, D] of spectrograms [B, F, T] with values around -1..1.

        More than ``MAX_FRAMES`` frames are averaged in twos, threes, ... until they fit.
        """
        specs = thin_frames(specs)
        # One clip's cells stay in a processor's cache; a GPU wants many at once.
        size = 1 if specs.device.type == "cpu" else _GPU_FRAMES // specs.shape[-1]
        return torch.cat([self.pool(part) for part in specs.split(size)])

    def pool(self, specs: Tensor) -> Tensor:
        """Features [B, D] of spectrograms [B, F, T], T at most ``MAX_FRAMES``."""
        parts = [specs.mean(2), specs.std(2, correction=0), specs.amax(2)]
        for index, dilation in enumerate(DILATIONS):
            cells = self._convolve(specs, index, dilation)
            counted = functional.hardtanh(cells, -RAMP, RAMP)
            share = _pool(counted, functional.adaptive_avg_pool2d, torch.mean) / (2 * RAMP) + 0.5
            parts += [_pool(cells, functional.adaptive_max_pool2d, torch.amax), share]
        return torch.cat(parts, dim=1)

    def _convolve(self, specs: Tensor, index: int, dilation: tuple[int, int]) -> Tensor:
        """Cells [B, count, F', T'] of one dilation."""
        weights = self.weights[index].to(specs.device).flatten(1)
        biases = self.biases[index].to(specs.device)
        cells = convolve_rows(specs, weights, biases, dilation=dilation, stride=(STRIDE, STRIDE))
        return cells.flatten(1, 2)

    def measure_pieces(self, pieces: Sequence[Tensor]) -> Tensor:
        """Features [D] of pieces [F, T_i] of one clip, as if they followed one another.

        No kernel reaches over the seams.
        """
        table = torch.cat([self.measure(piece[None]) for piece in pieces])
        if len(pieces) == 1:
            return table[0]
        frames = torch.tensor([piece.shape[1] for piece in pieces], dtype=table.dtype)
        share = (frames / frames.sum()).to(table.device)
        mean, largest = share @ table, table.amax(0)
        bins = pieces[0].shape[0]
        row_means = table[:, :bins]
        square = share @ (table[:, bins : 2 * bins].square() + row_means.square())
        deviation = (square - mean[:bins].square()).clamp_min(0.0).sqrt()
        parts = [mean[:bins], deviation, largest[2 * bins : 3 * bins]]
        for block, means in zip(
            largest[3 * bins :].unflatten(0, (-1, 2, NUM_BANDS * self.count)),
            mean[3 * bins :].unflatten(0, (-1, 2, NUM_BANDS * self.count)),
            strict=True,
        ):
            parts += [block[0], means[1]]
        return torch.cat(parts)


def thin_frames(specs: Tensor) -> Tensor:
    """Average the frames of spectrograms [B, F, T] until at most ``MAX_FRAMES`` are left."""
    frames = specs.shape[-1]
    return functional.avg_pool1d(specs, -(-frames // MAX_FRAMES)) if frames > MAX_FRAMES else specs


def _pool(cells: Tensor, adaptive: Callable[..., Tensor], reduce: Callable[..., Tensor]) -> Tensor:
    """Pool cells [B, count, F', T'] over time, in bands of frequency: [B, count * bands]."""
    if cells.shape[2] % NUM_BANDS:
        return adaptive(cells, (NUM_BANDS, 1)).flatten(1)
    # Far faster than adaptive pooling, where all bands have the same number of rows.
    return reduce(cells.unflatten(2, (NUM_BANDS, -1)).flatten(3), 3).flatten(1)
