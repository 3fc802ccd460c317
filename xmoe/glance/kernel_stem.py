"""Spectrogram [B, F, T] -> stem map [B, D, R, W] and a first answer, in closed form.

A bank of random kernels under a ReLU, and a linear head on two means of each band: the plain one,
which hears what goes on all the time, and one of fourth powers, which hears what stands out. Fitted
by a ridge in a second, with held-out answers for all its clips. Both means grow in proportion with
the map, so what each cell adds to an answer is its value times its slope, exactly: the class
activation map needs no gradient. Same grid as the stem that is trained: cells of 4 by 4.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from xmoe.base.layers import convolve_rows
from xmoe.glance.stem import DECIMATION, StemOutput

NUM_KERNELS = 256
KERNEL_SIZE = 7
DILATIONS: tuple[tuple[int, int], ...] = ((1, 1), (1, 3), (2, 1), (2, 4))
NUM_BANDS = 8
_STRIDE = DECIMATION // 2
_LEAST = 1e-6


class KernelStem(nn.Module):
    """Random kernels with a ridge as their head; R = F / 4, W = ceil(T / 4).

    The kernels are kept with the weights, so that no generator decides what they are.
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
        """What the head reads: two means of each kernel in each band."""
        return self.head.in_features

    def map_features(self, spec: Tensor) -> Tensor:
        """Return the stem map [B, D, R, W] of spectrograms [B, F, T]."""
        parts = zip(
            self.kernels.chunk(len(DILATIONS)),
            self.offsets.chunk(len(DILATIONS)),
            DILATIONS,
            strict=True,
        )
        maps = []
        for kernels, offsets, dilation in parts:
            cells = convolve_rows(spec, kernels, offsets, dilation=dilation, stride=_STRIDE)
            maps.append(halve(cells.relu_()))
        return torch.cat(maps, 1)

    def pool_bands(self, features: Tensor) -> Tensor:
        """Return what the head reads [B, 2 * D * bands] of a stem map [B, D, R, W]."""
        cells = self._in_bands(features).flatten(3)
        return torch.cat([cells.mean(3), power_mean(cells)], 1).flatten(1)

    def answer(self, features: Tensor) -> StemOutput:
        """Return the logits of a stem map [B, D, R, W]."""
        return StemOutput(features=features, logits=self.head(self.pool_bands(features)))

    def activate(self, output: StemOutput, belief: Tensor) -> Tensor:
        """Return what the rise of each cell over its mean in time adds to a belief [B, C].

        It is [B, R, W]; weights are centred over classes.
        """
        weight = self.head.weight - self.head.weight.mean(0, keepdim=True)
        slope = self.slope(output.features, belief @ weight)
        rise = output.features - output.features.mean(3, keepdim=True)
        return (rise * slope).sum(1)

    def slope(self, features: Tensor, weight: Tensor) -> Tensor:
        """Return what a unit more in each cell of a map adds to an answer, both [B, D, R, W].

        ``weight`` [B, 2 * D * bands] are the weights of that answer, clip by clip.
        """
        cells = self._in_bands(features)
        batch, channels, bands, rows, columns = cells.shape
        plain, peaks = weight.view(batch, 2, channels, bands, 1, 1).unbind(1)
        mean = power_mean(cells.flatten(3))[..., None, None]
        steep = cells / mean
        steep = steep.square() * steep
        slope = torch.addcmul(plain, peaks, steep) / (rows * columns)
        return slope.view(batch, channels, bands * rows, columns)

    def forward(self, spec: Tensor) -> StemOutput:
        """Return the stem's map and answer for spectrograms [B, F, T]."""
        return self.answer(self.map_features(spec))

    def _in_bands(self, features: Tensor) -> Tensor:
        """Return a map [B, D, R, W] as [B, D, bands, rows of a band, W]."""
        banded: Tensor = features.unflatten(2, (self.num_bands, -1))
        return banded


def power_mean(cells: Tensor) -> Tensor:
    """Return the fourth root of the mean fourth power [...] of cells [..., n], not below 1e-6."""
    mean: Tensor = cells.square().square_().mean(-1).clamp_min(_LEAST**4)
    return mean.sqrt().sqrt()


def halve(cells: Tensor) -> Tensor:
    """Return means of twos by twos of cells [B, D, 2 R, T]; a last column alone is its own."""
    pairs = cells[:, :, ::2] + cells[:, :, 1::2]
    if pairs.shape[3] % 2:
        pairs = torch.cat([pairs, pairs[..., -1:]], 3)
    halved: Tensor = (pairs[..., ::2] + pairs[..., 1::2]).mul_(0.25)
    return halved
