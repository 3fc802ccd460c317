"""The plan of a batch: which experts, with what weight, on which windows, and what they are sent.

A ``Plan`` is a value. It holds all that the middle line of *plan -> call experts -> combine* needs,
so that the same plan is carried out in one process or by a cluster with the same answer: the stem
map travels as uint8 with one scale per clip, and in-process prediction reads that same uint8 map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from xmoe.experts.cnn import band_rows
from xmoe.glance.spans import gather_columns, window_columns

LEVELS = 255


@dataclass(frozen=True)
class ExpertRequest:
    """What one expert is sent.

    ``rows`` [b] of the batch; ``windows`` uint8 [b, D, R', W'] of the stem map; ``scale`` [b].
    """

    name: str
    rows: Tensor
    windows: Tensor
    scale: Tensor

    def dequantise(self) -> Tensor:
        """Return the windows as float32 [b, D, R', W']."""
        return self.windows.float() * self.scale[:, None, None, None]


@dataclass(frozen=True)
class Plan:
    """What the router decided for a batch.

    ``stem_logits`` [B, C]; ``gate`` [B, E] over all allowed experts; ``weights`` [B, E], zero where
    an expert is not chosen, else renormalised to sum to one; ``windows`` [B, E, keep] window
    indices; ``promises`` [B, K_max + 1]; ``window_scores`` [B, E, P]; ``quantised`` uint8
    [B, D, R, W] with ``scale`` [B].
    """

    expert_names: tuple[str, ...]
    window_frames: int
    stem_logits: Tensor
    gate: Tensor
    weights: Tensor
    windows: Tensor
    promises: Tensor
    window_scores: Tensor
    quantised: Tensor
    scale: Tensor

    @property
    def k(self) -> Tensor:
        """Number of experts chosen for each clip, [B]."""
        return (self.weights > 0).sum(1)

    @property
    def num_windows(self) -> int:
        """P: windows in the whole map."""
        return self.window_scores.shape[2]

    def requests(self) -> list[ExpertRequest]:
        """Return one stacked request for each expert that any clip chose."""
        chosen = (self.weights > 0).cpu().numpy()
        asked = np.flatnonzero(chosen.any(0)).tolist()
        columns = None
        if asked and self.windows.shape[2] < self.num_windows:
            columns = window_columns(self.windows, self.window_frames, self.quantised.shape[3])
        return [self._request(index, np.flatnonzero(chosen[:, index]), columns) for index in asked]

    def _request(
        self, index: int, clips: npt.NDArray[np.intp], columns: Tensor | None
    ) -> ExpertRequest:
        """Return what the expert at ``index`` is sent of some clips: all or some ``columns``."""
        rows = torch.from_numpy(clips).to(self.quantised.device)
        every = len(clips) == len(self.quantised)  # then no copy is needed to pick them
        first, last = band_rows(self.expert_names[index], self.quantised.shape[2])
        band, scale = self.quantised[:, :, first:last], self.scale
        if not every:
            band, scale = band[rows], scale[rows]
        if columns is not None:
            own = columns[:, index]
            band = gather_columns(band, own if every else own[rows])
        return ExpertRequest(self.expert_names[index], rows, band.contiguous(), scale)

    def describe(self, clip: int = 0) -> str:
        """Return one clip's plan in words."""
        chosen = self.weights[clip].nonzero().squeeze(1).tolist()
        if not chosen:
            return "K = 0: the stem answers"
        keep, total = self.windows.shape[2], self.num_windows
        lines = [f"K = {len(chosen)}, {keep} of {total} windows each"]
        for index in sorted(chosen, key=lambda i: -float(self.weights[clip, i])):
            where = _ranges(self.windows[clip, index].tolist())
            weight = float(self.weights[clip, index])
            lines.append(f"  {self.expert_names[index]}: weight {weight:.2f}, windows {where}")
        return "\n".join(lines)

    def __str__(self) -> str:
        return "\n".join(f"clip {i}: {self.describe(i)}" for i in range(self.weights.shape[0]))


def quantise(features: Tensor) -> tuple[Tensor, Tensor]:
    """Return (uint8 [B, D, R, W], scale [B]) of a non-negative map; one scale per clip."""
    peak = features.amax((1, 2, 3)).clamp_min(1e-8)
    scale = peak / LEVELS
    levels = (features / scale[:, None, None, None]).round().clamp(0, LEVELS)
    return levels.to(torch.uint8), scale


def choose_experts(gate_logits: Tensor, k: Tensor) -> Tensor:
    """Return weights [B, E]: the ``k`` [B] best experts by gate, softmax over those chosen.

    Ties go to the first expert; a gate [B, E] that is not finite is never chosen.
    """
    allowed = torch.isfinite(gate_logits)
    usable = gate_logits.masked_fill(~allowed, float("-inf"))
    rank = usable.argsort(dim=1, descending=True, stable=True).argsort(1)
    chosen = (rank < k.unsqueeze(1)) & allowed
    weights = torch.softmax(usable.masked_fill(~chosen, float("-inf")), 1)
    return weights.masked_fill(~chosen, 0.0)


def _ranges(indices: Sequence[int]) -> str:
    """Return sorted indices as ranges: 0-2, 5."""
    parts: list[list[int]] = []
    for index in indices:
        if parts and index == parts[-1][1] + 1:
            parts[-1][1] = index
        else:
            parts.append([index, index])
    return ", ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in parts)
