"""Spectrogram [B, F, T] -> stem map [B, D, R, W] and a first answer, in closed form.

A bank of random kernels at two scales, each evaluated at two heights of every cell of 4 by 4, and a
linear head on two means of each band: the plain mean, for what goes on all the time, and one of
eighth powers, for what stands out. Fitted by a ridge in a second, with held-out answers for all its
clips. The map holds square roots of the kernels' responses, so that loud parts do not drown out the
others. Both means grow in proportion with the map, so what each cell adds to an answer is exactly
its value times its slope: the class activation map needs no gradient. Same grid as the trained
stem.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from xmoe.base.layers import convolve_rows
from xmoe.glance.stem import DECIMATION, StemOutput

NUM_KERNELS = 128
KERNEL_SIZE = 7
# Bins and frames averaged to one, and the dilations of the kernels at that scale.
SCALES: tuple[tuple[int, tuple[tuple[int, int], ...]], ...] = (
    (1, ((1, 1), (2, 4))),
    (2, ((1, 2), (2, 1))),
)
HEIGHTS = 2
NUM_BANDS = 8
# Responses are clamped to this before the square root, which has no slope at 0.
LEAST_RESPONSE = 0.01
_LEAST_MEAN = 1e-16


class KernelStem(nn.Module):
    """Random kernels with a ridge as their head; R = F / 4, W = ceil(T / 4), D = 2 a kernel.

    The kernels are stored with the weights, so that they do not depend on a random generator.
    """

    kernels: Tensor
    offsets: Tensor

    def __init__(
        self, *, num_bins: int, num_classes: int, count: int = NUM_KERNELS, seed: int = 0
    ) -> None:
        super().__init__()
        self.num_rows = num_bins // DECIMATION
        whole = (n for n in range(NUM_BANDS, 0, -1) if self.num_rows % n == 0)
        self.num_bands = next(whole)
        generator = torch.Generator().manual_seed(seed)
        kernels = torch.randn(count, KERNEL_SIZE**2, generator=generator)
        kernels -= kernels.mean(1, keepdim=True)
        self.register_buffer("kernels", kernels / kernels.norm(dim=1, keepdim=True))
        self.register_buffer("offsets", torch.randn(count, generator=generator))
        self.head = nn.Linear(2 * count * self.num_bands, num_classes)
        for weight in self.head.parameters():
            weight.requires_grad_(False)

    @property
    def num_features(self) -> int:
        """Inputs of the head: two means of each kernel in each band."""
        return self.head.in_features

    def map_features(self, spec: Tensor) -> Tensor:
        """The stem map [B, D, R, W] of spectrograms [B, F, T]; no cell is below 0.1."""
        seen = []
        for factor, dilations in SCALES:
            stride = (DECIMATION // HEIGHTS // factor, DECIMATION // factor)
            shrunk = shrink_cells(spec, factor)
            seen += [(shrunk, dilation, stride) for dilation in dilations]
        banks = zip(self.kernels.chunk(len(seen)), self.offsets.chunk(len(seen)), strict=True)
        maps = [
            convolve_rows(
                shrunk, kernels, offsets, dilation=dilation, stride=stride, heights=HEIGHTS
            )
            for (kernels, offsets), (shrunk, dilation, stride) in zip(banks, seen, strict=True)
        ]
        return torch.cat(maps, 1).flatten(1, 2).clamp_min_(LEAST_RESPONSE).sqrt_()

    def pool_bands(self, features: Tensor) -> Tensor:
        """Inputs of the head [B, 2 * kernels * bands] from a stem map [B, D, R, W]."""
        return pool_sums(*self.sum_heights(features))

    def answer(self, features: Tensor) -> StemOutput:
        """The logits of a stem map [B, D, R, W]."""
        sums = self.sum_heights(features)
        pooled = pool_sums(*sums)
        return StemOutput(features=features, logits=self.head(pooled), pooled=pooled, sums=sums)

    def activate(self, output: StemOutput, belief: Tensor) -> Tensor:
        """What each cell adds to a belief [B, C], minus the mean of its row: [B, R, W].

        Weights are centred over classes.
        """
        weight = self.head.weight - self.head.weight.mean(0, keepdim=True)
        amounts = self.amounts(output, belief @ weight)
        return amounts - amounts.mean(2, keepdim=True)

    def amounts(self, output: StemOutput, weight: Tensor) -> Tensor:
        """What each cell of a map adds to an answer [B, R, W]: its value times its slope.

        ``weight`` [B, 2 * kernels * bands] are the weights of that answer, one row per clip.
        """
        assert output.pooled is not None
        assert output.sums is not None
        cells, raised = output.sums
        batch, _, bands, count = cells.shape
        share = 1.0 / (HEIGHTS * count)
        plain, peaks = (weight * share).view(batch, 2, -1, bands).unbind(1)
        means = output.pooled.view(batch, 2, -1, bands)[:, 1]
        # The slope of an eighth root m of a mean: 1 / m ** 7 of the slope of that mean.
        found = add_up(plain, cells) + add_up(peaks * means / eighth_power(means), raised)
        return found.view(batch, self.num_rows, -1)

    def forward(self, spec: Tensor) -> StemOutput:
        return self.answer(self.map_features(spec))

    def sum_heights(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Sums over heights of a map's cells and of their eighth powers [B, kernels, bands, n].

        ``n`` are the cells of a band.
        """
        cells = features.unflatten(2, (self.num_bands, -1)).flatten(3)
        return add_heights(cells), add_heights(eighth_power(cells))


def shrink_cells(spec: Tensor, factor: int) -> Tensor:
    """Average ``factor`` bins and frames of spectrograms [B, F, T] to one."""
    if factor == 1:
        return spec
    shrunk: Tensor = functional.avg_pool2d(
        spec.unsqueeze(1), factor, ceil_mode=True, count_include_pad=False
    ).squeeze(1)
    return shrunk


def add_heights(cells: Tensor) -> Tensor:
    """Sums [B, kernels, bands, n] over the heights of cells [B, D, bands, n]."""
    first, second = cells.unflatten(1, (-1, HEIGHTS)).unbind(2)
    added: Tensor = first + second
    return added


def pool_sums(cells: Tensor, raised: Tensor) -> Tensor:
    """Two means of each band, side by side: the plain one and the eighth root of the other."""
    plain, peaks = cells.mean(3) / HEIGHTS, raised.mean(3) / HEIGHTS
    roots = peaks.clamp_min(_LEAST_MEAN).sqrt().sqrt().sqrt()
    return torch.cat([plain, roots], 1).flatten(1)


def eighth_power(cells: Tensor) -> Tensor:
    return cells.square().square_().square_()


def add_up(weight: Tensor, cells: Tensor) -> Tensor:
    """Sum [B, bands, n] of cells [B, kernels, bands, n] with weights [B, kernels, bands]."""
    return (weight.unsqueeze(3) * cells).sum(1)
