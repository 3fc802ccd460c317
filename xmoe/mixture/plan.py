"""The plan of a batch: which experts, with what weight, and on which spans of time.

A ``Plan`` is a value: small, drawn and sent as it is. What the experts are fed is not in it; that
is made from ``Inputs`` by each expert's own kind (``xmoe.mixture.payload``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Plan:
    """What the router decided for a batch.

    ``stem_logits`` [B, C]; ``gate`` [B, E] over all allowed experts; ``weights`` [B, E], zero where
    an expert is not chosen, else renormalised to sum to one; ``spans`` [B, E, n, 2], start and end
    in seconds from the segment's start, in the order of time; ``promises`` [B, K_max + 1];
    ``window_scores`` [B, E, P] of the windows that ``window_edges_s`` (P + 1) bounds, from which
    the spans were picked.
    """

    expert_names: tuple[str, ...]
    window_edges_s: tuple[float, ...]
    stem_logits: Tensor
    gate: Tensor
    weights: Tensor
    spans: Tensor
    promises: Tensor
    window_scores: Tensor

    @property
    def k(self) -> Tensor:
        """Number of experts chosen for each clip, [B]."""
        return (self.weights > 0).sum(1)

    @property
    def num_windows(self) -> int:
        """P: windows in the whole segment."""
        return self.window_scores.shape[2]

    @property
    def windows(self) -> Tensor:
        """The spans as indices of windows, [B, E, n]."""
        edges = self.spans.new_tensor(self.window_edges_s)
        return torch.bucketize(self.spans.mean(3), edges) - 1

    def with_windows(self, windows: Tensor) -> Plan:
        """Return the plan with other windows [B, E, n] in the place of its own."""
        return replace(self, spans=spans_of(windows, self.window_edges_s))

    def describe(self, clip: int = 0) -> str:
        """Return one clip's plan in words."""
        chosen = self.weights[clip].nonzero().squeeze(1).tolist()
        if not chosen:
            return "K = 0: the stem answers"
        keep, total = self.spans.shape[2], self.num_windows
        lines = [f"K = {len(chosen)}, {keep} of {total} windows each"]
        for index in sorted(chosen, key=lambda i: -float(self.weights[clip, i])):
            where = _ranges(self.windows[clip, index].tolist())
            weight = float(self.weights[clip, index])
            lines.append(f"  {self.expert_names[index]}: weight {weight:.2f}, windows {where}")
        return "\n".join(lines)

    def __str__(self) -> str:
        return "\n".join(f"clip {i}: {self.describe(i)}" for i in range(self.weights.shape[0]))


def spans_of(windows: Tensor, edges_s: Sequence[float]) -> Tensor:
    """Return windows [...] as spans [..., 2] in seconds between the edges of the grid."""
    edges = torch.tensor(edges_s, device=windows.device)
    return torch.stack([edges[windows], edges[windows + 1]], -1)


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
