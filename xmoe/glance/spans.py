"""Saliency cells [B, R, W] -> which time windows of the stem map an expert is sent.

A window is ``window_frames`` columns of the stem map within the rows of one expert's band, so two
experts may look at different moments of one clip. Windows are sent in order of time; outside this
module they are spans in seconds.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from xmoe.base.config import SelectorName
from xmoe.glance.stem import DECIMATION


def num_windows(columns: int, window_frames: int) -> int:
    """P, the number of windows that cover ``columns`` columns."""
    return -(-columns // window_frames)


def windows_kept(total: int, fraction: float) -> int:
    """How many of ``total`` windows a fraction keeps, at least one."""
    return max(1, min(total, round(total * fraction)))


def score_cells(
    selector: SelectorName, *, saliency: Tensor, cam: Tensor, features: Tensor, energy: Tensor
) -> Tensor:
    """Cell scores [B, R, W] of a selector; the caller draws those of ``random``.

    ``saliency``, ``cam`` and ``energy`` are [B, R, W]; ``features`` is the stem map [B, D, R, W].
    """
    if selector == "saliency":
        return saliency
    if selector == "cam":
        return F.relu(cam)
    if selector == "feature":
        return (features - features.mean(3, keepdim=True)).square().sum(1)
    if selector == "energy":
        return energy
    raise ValueError(f"selector {selector!r} has no scores of its own")


def score_windows(cells: Tensor, bands: Tensor, window_frames: int) -> Tensor:
    """Window scores [B, E, P]: cells [B, R, W] summed over each expert's band and window.

    ``bands`` [E, R] is 1 where an expert sees a row.
    """
    per_expert = bands @ cells
    padding = -per_expert.shape[2] % window_frames
    padded = F.pad(per_expert, (0, padding)) if padding else per_expert
    return padded.view(*padded.shape[:2], -1, window_frames).sum(3)


def choose_windows(scores: Tensor, keep: int) -> Tensor:
    """The ``keep`` best windows of scores [..., P] as rising indices [..., keep].

    Ties go to the earliest window, so that batch size and device make no difference.
    """
    ranked = scores.argsort(dim=-1, descending=True, stable=True)
    return ranked[..., :keep].sort(dim=-1).values


def choose_runs(scores: Tensor, width: int, count: int) -> Tensor:
    """The ``count`` best runs of ``width`` windows of scores [..., P] as rising indices.

    Runs do not overlap; the indices are [..., n], n = width * count or P. If no further run fits,
    the first one is repeated.
    """
    total = scores.shape[-1]
    if width * count >= total:
        return torch.arange(total, device=scores.device).expand(*scores.shape[:-1], total)
    sums = F.pad(scores.double().cumsum(-1), (1, 0))
    free = sums[..., width:] - sums[..., :-width]
    starts = torch.arange(free.shape[-1], device=scores.device)
    runs: list[Tensor] = []
    for _ in range(count):
        best, place = free.max(-1)
        fits = best > float("-inf")
        runs.append(torch.where(fits, place, runs[0]) if runs else place)
        taken = (starts - place.unsqueeze(-1)).abs() < width
        free = free.masked_fill(taken, float("-inf"))
    inside = torch.arange(width, device=scores.device)
    picked = (torch.stack(runs, -1).unsqueeze(-1) + inside).flatten(-2)
    return picked.sort(-1).values


def window_edges_s(
    columns: int, window_frames: int, num_frames: int, frame_s: float
) -> list[float]:
    """The P + 1 edges of the windows of a segment, in seconds from its start.

    A frame reaches half a frame to either side of its centre, and a column spans ``DECIMATION``
    frames; the outer edges are those of the segment.
    """
    width = window_frames * DECIMATION
    inner = [index * width - 0.5 for index in range(1, num_windows(columns, window_frames))]
    return [frame * frame_s for frame in (0.0, *inner, num_frames - 0.5)]


def band_masks(rows: Sequence[tuple[int, int]], num_rows: int) -> Tensor:
    """[E, R], 1 in the rows (first and after last) of each expert."""
    masks = torch.zeros(len(rows), num_rows)
    for index, (first, last) in enumerate(rows):
        masks[index, first:last] = 1.0
    return masks
