"""Cells of the stem map, or of an expert's map -> bins and frames of the spectrogram.

Two stride-2 convolutions make the stem map, so the cell in row r and column w is centred on bin 4 r
and frame 4 w; growing a map keeps these centres where they are.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from xmoe.experts.cnn import band_rows, window_columns
from xmoe.glance.stem import DECIMATION
from xmoe.mixture.plan import Plan


def grow_cells(cells: Tensor, shape: tuple[int, int]) -> Tensor:
    """Cells [B, R, W] on the spectrogram's grid [B, F, T], bilinear between centres."""
    rows, columns = cells.shape[1:]
    size = (DECIMATION * (rows - 1) + 1, DECIMATION * (columns - 1) + 1)
    grown = F.interpolate(cells.unsqueeze(1), size=size, mode="bilinear", align_corners=True)
    margin = (0, max(0, shape[1] - size[1]), 0, max(0, shape[0] - size[0]))
    padded = F.pad(grown, margin, mode="replicate").squeeze(1)
    return padded[:, : shape[0], : shape[1]]


def place_expert_cells(
    cells: Tensor, plan: Plan, name: str, rows: Tensor, *, shape: tuple[int, int], width: int
) -> Tensor:
    """An expert's cells [b, R', W'] on the grid of the stem map, [b, R, W].

    ``rows`` [b] are their clips in the plan, ``shape`` is (R, W), and a window is ``width``
    columns. Zero outside the expert's band and the windows that it was sent.
    """
    num_rows, columns = shape
    first, last = band_rows(name, num_rows)
    index = plan.expert_names.index(name)
    kept = window_columns(plan.windows[rows, index], width, columns + width)
    size = (last - first, kept.shape[1])
    spread = F.interpolate(cells.unsqueeze(1), size=size, mode="bilinear", align_corners=False)
    canvas = cells.new_zeros(len(rows), num_rows, columns + width)
    target = kept.unsqueeze(1).expand(-1, size[0], -1)
    canvas[:, first:last] = canvas[:, first:last].scatter(2, target, spread.squeeze(1))
    return canvas[:, :, :columns]
