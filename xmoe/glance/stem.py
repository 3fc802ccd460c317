"""Spectrogram [B, F, T] -> stem map [B, D, R, W] and a first answer [B, C].

Every clip pays for the stem once, so it is light: three convolutions that decimate frequency and
time by four. Its own head answers when no expert is asked (K = 0), and is built so that the class
activation map is exact in closed form: a linear map of band means, pooled over time by a smooth
maximum whose sharpness is learned (0 is the mean, large is the maximum).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from xmoe.base.layers import conv_block

NUM_BANDS = 4
DECIMATION = 4


def stem_columns(num_frames: int) -> int:
    """W, the columns of the stem map of a spectrogram of T frames."""
    return -(-num_frames // DECIMATION)


@dataclass(frozen=True)
class StemOutput:
    """The stem's map and answer for a batch.

    ``features`` [B, D, R, W] and ``logits`` [B, C]. If the stem pools logits over time,
    ``column_logits`` [B, C, W] are the evidence of each column and ``attention`` [B, C, W] is d
    logits / d column_logits. For a stem of random kernels ``pooled`` [B, N] is the input of its
    head, and ``sums`` are what it is made of.
    """

    features: Tensor
    logits: Tensor
    column_logits: Tensor | None = None
    attention: Tensor | None = None
    pooled: Tensor | None = None
    sums: tuple[Tensor, Tensor] | None = None


class Stem(nn.Module):
    """Light convolutional stem with its own head; R = F / 4, W = ceil(T / 4)."""

    def __init__(self, *, num_bins: int, channels: int, num_classes: int) -> None:
        super().__init__()
        if num_bins % (DECIMATION * NUM_BANDS):
            raise ValueError(f"num_bins {num_bins} must be a multiple of {DECIMATION * NUM_BANDS}")
        self.num_rows = num_bins // DECIMATION
        self.conv1 = conv_block(1, channels // 2, (5, 5), (2, 2))
        self.conv2 = conv_block(channels // 2, channels, (3, 3), (2, 2))
        self.row_bias = nn.Parameter(torch.zeros(1, channels, self.num_rows, 1))
        self.conv3 = conv_block(channels, channels, (3, 3))
        self.head = nn.Linear(channels * NUM_BANDS, num_classes)
        self.log_sharpness = nn.Parameter(torch.zeros(()))

    def map_features(self, spec: Tensor) -> Tensor:
        """The stem map [B, D, R, W] of spectrograms [B, F, T]."""
        hidden = self.conv2(self.conv1(spec.unsqueeze(1)))
        mapped: Tensor = self.conv3(hidden + self.row_bias)
        return mapped

    def answer(self, features: Tensor) -> StemOutput:
        """Evidence and logits of a stem map [B, D, R, W]."""
        batch, channels, rows, columns = features.shape
        bands = features.view(batch, channels, NUM_BANDS, rows // NUM_BANDS, columns).mean(3)
        column_logits = self.head.weight @ bands.view(batch, -1, columns)
        sharpness = self.log_sharpness.exp()
        scaled = column_logits * sharpness
        pooled = (torch.logsumexp(scaled, 2) - math.log(columns)) / sharpness
        return StemOutput(
            features=features,
            column_logits=column_logits,
            logits=pooled + self.head.bias,
            attention=torch.softmax(scaled, 2),
        )

    def activate(self, output: StemOutput, belief: Tensor) -> Tensor:
        """What the rise of each cell over its mean in time adds to a belief [B, C]: [B, R, W].

        Weights are centred over classes.
        """
        assert output.attention is not None
        batch, channels, rows, columns = output.features.shape
        weight = self.head.weight - self.head.weight.mean(0, keepdim=True)
        blended = weight.T @ (output.attention * belief.unsqueeze(2))
        rise = output.features - output.features.mean(3, keepdim=True)
        grouped = rise.view(batch, channels, NUM_BANDS, rows // NUM_BANDS, columns)
        evidence = grouped * blended.view(batch, channels, NUM_BANDS, 1, columns)
        return evidence.sum(1).reshape(batch, rows, columns)

    @torch.no_grad()
    def sharpen(self, factor: float) -> None:
        """Multiply all logits by a factor; which columns they come from stays the same."""
        for weights in self.head.parameters():
            weights.mul_(factor)
        self.log_sharpness.sub_(math.log(factor))

    def forward(self, spec: Tensor) -> StemOutput:
        return self.answer(self.map_features(spec))
