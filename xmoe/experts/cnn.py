"""Windows of the stem map -> logits: eight experts, each with a bias of its own.

An expert's bias is the rows it sees and the shape of its kernels. Each is a separate module with
its own weights file and answers on any number of windows; batch norm is folded away for serving.

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

from xmoe.base.config import CnnSpec, ModelConfig
from xmoe.base.layers import conv_block
from xmoe.experts.protocol import Expert, Inputs, Payload

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
    low, high = EXPERT_SHAPES[name].band
    return round(low * num_rows), round(high * num_rows)


def span_columns(spans: Tensor, inputs: Inputs) -> Tensor:
    """Columns [b, n * window_columns] of the stem map on spans [b, n, 2] in seconds.

    Where the map ends within a window, its last column is repeated.
    """
    first = (spans[..., 0] / inputs.column_s).round().long()
    return fill_windows(first, inputs.window_columns, inputs.stem_map.shape[3])


def window_columns(windows: Tensor, window_frames: int, columns: int) -> Tensor:
    """Columns [..., keep * window_frames] of windows [..., keep] in a map that wide."""
    return fill_windows(windows * window_frames, window_frames, columns)


def fill_windows(first: Tensor, width: int, columns: int) -> Tensor:
    """The ``width`` columns from each ``first`` [..., n] on, as [..., n * width]."""
    offsets = torch.arange(width, device=first.device)
    return (first.unsqueeze(-1) + offsets).flatten(-2).clamp_max_(columns - 1)


def gather_columns(features: Tensor, columns: Tensor) -> Tensor:
    """Columns [B, n] of a map [B, D, R', W], each clip's own, as [B, D, R', n]."""
    index = columns[:, None, None, :].expand(-1, features.shape[1], features.shape[2], -1)
    return torch.gather(features, 3, index)


def gather_windows(features: Tensor, windows: Tensor, window_frames: int) -> Tensor:
    """Windows [B, keep], in the order of time, of a map [B, D, R', W]."""
    return gather_columns(features, window_columns(windows, window_frames, features.shape[3]))


class CnnExpert(Expert[CnnSpec]):
    """An expert on the stem map: windows [b, D, rows of its band, columns] -> logits [b, C]."""

    kind = "cnn"
    small_values = 1 << 17

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

    @classmethod
    def build(cls, spec: CnnSpec, config: ModelConfig) -> CnnExpert:
        return cls(
            spec.name,
            in_channels=config.stem_channels,
            channels=config.expert_channels,
            num_classes=config.num_classes,
            dropout=config.dropout,
        )

    @staticmethod
    def rows(spec: CnnSpec, num_rows: int) -> tuple[int, int]:
        return band_rows(spec.name, num_rows)

    @staticmethod
    def pack(spec: CnnSpec, inputs: Inputs, rows: Tensor, spans: Tensor) -> Payload:
        """Payload of ``levels`` uint8 [b, D, R', W'], the band on its spans, and ``scale`` [b].

        Spans that cover the segment take the band as it is.
        """
        first, last = band_rows(spec.name, inputs.stem_map.shape[2])
        levels, scale = inputs.stem_map[:, :, first:last], inputs.scale
        if len(rows) < len(scale):  # else no copy is needed to pick them
            levels, scale = levels[rows], scale[rows]
        if spans.shape[1] * inputs.window_columns < levels.shape[3]:
            levels = gather_columns(levels, span_columns(spans, inputs))
        return {"levels": levels.contiguous(), "scale": scale}

    def answer(self, payload: Payload) -> Tensor:
        logits: Tensor = self(payload["levels"].float() * payload["scale"][:, None, None, None])
        return logits

    def describe(self) -> str:
        shape = EXPERT_SHAPES[self.name]
        return f"kernels {' '.join('x'.join(map(str, kernel)) for kernel in shape.kernels)}"

    def map_features(self, windows: Tensor) -> Tensor:
        """The last map [B, 2 * channels, rows', columns']."""
        mapped: Tensor = self.conv2(self.conv1(windows))
        return mapped

    def read_map(self, features: Tensor) -> Tensor:
        """Logits [B, C] of the last map, from the mean and maximum over its cells."""
        flat = features.flatten(2)
        pooled = torch.cat([flat.mean(2), flat.amax(2)], 1)
        logits: Tensor = self.head(self.dropout(pooled))
        return logits

    def forward(self, windows: Tensor) -> Tensor:
        """Logits [B, C] of windows [B, D, rows, columns]."""
        return self.read_map(self.map_features(windows))
