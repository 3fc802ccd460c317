"""Spectrogram [B, F, T] -> stem map [B, D, R, W] and a first answer, in closed form.

A bank of random kernels under a ReLU, and a linear head on means of bands: fitted by a ridge in
a second, with held-out answers for all its clips, and so linear that its class activation map is
exact. Same grid as the stem that is trained by gradient: cells of 4 by 4.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from xmoe.glance.stem import DECIMATION, StemOutput

NUM_KERNELS = 256
KERNEL_SIZE = 7
NUM_BANDS = 8
_REACH = KERNEL_SIZE // 2


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
        self.head = nn.Linear(count * self.num_bands, num_classes)
        for weight in self.head.parameters():
            weight.requires_grad_(False)

    @property
    def num_features(self) -> int:
        """D * bands: what the head reads."""
        return self.head.in_features

    def map_features(self, spec: Tensor) -> Tensor:
        """Return the stem map [B, D, R, W] of spectrograms [B, F, T].

        One matrix product of the patches: a convolution of one channel is ten times as slow.
        """
        frames = spec.shape[2]
        columns = -(-frames // DECIMATION)
        right = DECIMATION * columns - frames + _REACH
        padded = functional.pad(spec.unsqueeze(1), (_REACH, right, _REACH, _REACH))
        patches = functional.unfold(padded, KERNEL_SIZE, stride=DECIMATION)
        rows = (padded.shape[2] - KERNEL_SIZE) // DECIMATION + 1
        patches = patches.unflatten(2, (rows, -1))[:, :, : self.num_rows, :columns].flatten(2)
        cells = self.kernels @ patches + self.offsets[:, None]
        mapped: Tensor = torch.relu(cells).unflatten(2, (self.num_rows, columns))
        return mapped

    def pool_bands(self, features: Tensor) -> Tensor:
        """Return means [B, D * bands] of a stem map [B, D, R, W]: what the head reads."""
        return self._bands(features).mean(2)

    def _bands(self, features: Tensor) -> Tensor:
        """Return means [B, D * bands, W] over the rows of each band."""
        batch, channels, _, columns = features.shape
        pooled = features.view(batch, channels, self.num_bands, -1, columns).mean(3)
        return pooled.view(batch, -1, columns)

    def answer(self, features: Tensor) -> StemOutput:
        """Return evidence and logits of a stem map [B, D, R, W]."""
        column_logits = self.head.weight @ self._bands(features)
        columns = features.shape[3]
        return StemOutput(
            features=features,
            column_logits=column_logits,
            logits=column_logits.mean(2) + self.head.bias,
            attention=torch.full_like(column_logits, 1.0 / columns),
        )

    def forward(self, spec: Tensor) -> StemOutput:
        """Return the stem's map and answer for spectrograms [B, F, T]."""
        return self.answer(self.map_features(spec))
