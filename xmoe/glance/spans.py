"""Saliency cells [B, R, W] -> which time windows of the stem map an expert is sent.

A patch is a time window of ``window_frames`` columns within the rows of one expert's band, so two
experts may look at different moments of one clip. Windows are sent in the order of time. The last
window of a map whose width is no multiple of the window is filled by repeating its last column.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from xmoe.base.config import SelectorName


def num_windows(columns: int, window_frames: int) -> int:
    """Return P, the number of windows that cover ``columns`` columns."""
    return -(-columns // window_frames)


def windows_kept(total: int, fraction: float) -> int:
    """Return how many of ``total`` windows a fraction keeps: at least one."""
    return max(1, min(total, round(total * fraction)))


def score_cells(
    selector: SelectorName, *, saliency: Tensor, cam: Tensor, features: Tensor, energy: Tensor
) -> Tensor:
    """Return cell scores [B, R, W] of a selector; ``random`` is drawn by the caller.

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
    """Return window scores [B, E, P]: cells [B, R, W] summed over each expert's band and window.

    ``bands`` [E, R] is 1 where an expert sees a row.
    """
    per_expert = bands @ cells
    padding = -per_expert.shape[2] % window_frames
    padded = F.pad(per_expert, (0, padding)) if padding else per_expert
    return padded.view(*padded.shape[:2], -1, window_frames).sum(3)


def choose_windows(scores: Tensor, keep: int) -> Tensor:
    """Return the ``keep`` best windows of scores [..., P] as rising indices [..., keep].

    Ties go to the earliest window, so that batch size and device change nothing.
    """
    ranked = scores.argsort(dim=-1, descending=True, stable=True)
    return ranked[..., :keep].sort(dim=-1).values


def gather_windows(features: Tensor, windows: Tensor, window_frames: int) -> Tensor:
    """Return the chosen windows [B, D, R', keep * window_frames] of a map [B, D, R', W].

    ``windows`` [B, keep] holds window indices in the order of time.
    """
    return gather_columns(features, window_columns(windows, window_frames, features.shape[3]))


def window_columns(windows: Tensor, window_frames: int, columns: int) -> Tensor:
    """Return the columns [..., keep * window_frames] of windows [..., keep] in a map that wide."""
    offsets = torch.arange(window_frames, device=windows.device)
    index = (windows.unsqueeze(-1) * window_frames + offsets).flatten(-2)
    return index.clamp_max_(columns - 1)


def gather_columns(features: Tensor, columns: Tensor) -> Tensor:
    """Return columns [B, n], each clip's own, of a map [B, D, R', W] as [B, D, R', n]."""
    index = columns[:, None, None, :].expand(-1, features.shape[1], features.shape[2], -1)
    return torch.gather(features, 3, index)
