"""Windows of the stem map -> logits: eight experts, each with a bias of its own.

An expert's bias is the rows it sees and the shape of its kernels. Each is a module by itself, with
its own weights file, that answers on any number of windows; batch norm folds away when it serves.

    broadband       all rows, square kernels
    low, mid, high  lower, middle, upper half of the rows
    high_band       the top quarter of the rows
    transient       all rows gathered early, no stride in time: clicks and onsets
    harmonic        tall dilated kernels along frequency: stacks of partials
    fine_frequency  tall kernels, no stride in frequency, time gathered early: tonal lines
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from xmoe.base.layers import conv_block

Pair = tuple[int, int]


@dataclass(frozen=True)
class ExpertShape:
    """The bias of one expert: its band as fractions of the rows, and its two kernels."""

    band: tuple[float, float]
    kernels: tuple[Pair, Pair]
    strides: tuple[Pair, Pair]
    dilation: Pair = (1, 1)


EXPERT_SHAPES: dict[str, ExpertShape] = {
    "broadband": ExpertShape((0.0, 1.0), ((3, 3), (3, 3)), ((2, 2), (2, 1))),
    "low": ExpertShape((0.0, 0.5), ((3, 3), (3, 3)), ((1, 2), (2, 1))),
    "high": ExpertShape((0.5, 1.0), ((3, 3), (3, 3)), ((1, 2), (2, 1))),
    "transient": ExpertShape((0.0, 1.0), ((5, 3), (3, 3)), ((4, 1), (2, 1))),
    "harmonic": ExpertShape((0.0, 1.0), ((5, 3), (5, 1)), ((2, 2), (1, 1)), (2, 1)),
    "fine_frequency": ExpertShape((0.0, 1.0), ((5, 1), (5, 3)), ((1, 2), (1, 2))),
    "mid": ExpertShape((0.25, 0.75), ((3, 3), (3, 3)), ((1, 2), (2, 1))),
    "high_band": ExpertShape((0.75, 1.0), ((3, 3), (3, 3)), ((1, 1), (1, 2))),
}


def band_rows(name: str, num_rows: int) -> tuple[int, int]:
    """Return the first row and the row after the last that an expert sees."""
    low, high = EXPERT_SHAPES[name].band
    return round(low * num_rows), round(high * num_rows)


def band_masks(names: tuple[str, ...], num_rows: int) -> Tensor:
    """Return [E, R], 1 where an expert sees a row."""
    masks = torch.zeros(len(names), num_rows)
    for index, name in enumerate(names):
        first, last = band_rows(name, num_rows)
        masks[index, first:last] = 1.0
    return masks


class Expert(nn.Module):
    """One expert: windows [B, D, rows of its band, columns] -> logits [B, C]."""

    def __init__(
        self, name: str, *, in_channels: int, channels: int, num_classes: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        shape = EXPERT_SHAPES[name]
        self.name = name
        self.conv1 = conv_block(in_channels, channels, shape.kernels[0], shape.strides[0])
        self.conv2 = conv_block(
            channels, 2 * channels, shape.kernels[1], shape.strides[1], shape.dilation
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(4 * channels, num_classes)

    def map_features(self, windows: Tensor) -> Tensor:
        """Return the expert's last map [B, 2 * channels, rows', columns']."""
        mapped: Tensor = self.conv2(self.conv1(windows))
        return mapped

    def answer(self, features: Tensor) -> Tensor:
        """Return logits [B, C] from the last map: mean and maximum over its cells."""
        flat = features.flatten(2)
        pooled = torch.cat([flat.mean(2), flat.amax(2)], 1)
        logits: Tensor = self.head(self.dropout(pooled))
        return logits

    def forward(self, windows: Tensor) -> Tensor:
        """Return logits [B, C] of windows [B, D, rows, columns]."""
        return self.answer(self.map_features(windows))
