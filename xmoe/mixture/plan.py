"""The plan of a batch: which experts, with what weight, and on which spans of time.

A ``Plan`` is a plain value, drawn and sent as it is. It does not hold what the experts are fed:
each expert's kind makes that from ``Inputs`` (``xmoe.mixture.calls``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from xmoe.glance.router import STEM_SHARE


@dataclass(frozen=True)
class Preference:
    """Which experts a batch would ask, and how much their answers would count.

    ``ranking`` [B, E]: the highest is asked first, -inf never. ``log_shares`` [B, K_max + 1, E]:
    row k holds the logarithms of the weights with k experts, up to a constant. ``stem_shares`` [B,
    K_max + 1] is the weight of the stem beside k experts.
    """

    ranking: Tensor
    log_shares: Tensor
    stem_shares: Tensor

    def choose(self, k: Tensor) -> Tensor:
        """Weights [B, E], summing to one, of the first ``k`` [B] experts."""
        rows = torch.arange(len(k), device=k.device)
        shares = self.log_shares[rows, k.clamp_max(self.log_shares.shape[1] - 1)]
        return choose_experts(self.ranking, k, shares)

    def without(self, gone: Tensor) -> Preference:
        """The preference with the experts marked in ``gone`` [E] or [B, E] never asked."""
        return replace(self, ranking=self.ranking.masked_fill(gone, float("-inf")))


def prefer_by_gate(gate_logits: Tensor, k_max: int) -> Preference:
    """The preference of a gate [B, E], the same for any number of experts."""
    stem = torch.full((k_max + 1,), 1.0, device=gate_logits.device)
    stem[1:] -= 1.0 - STEM_SHARE
    batch, experts = gate_logits.shape
    log_shares = gate_logits.unsqueeze(1).expand(batch, k_max + 1, experts)
    return Preference(gate_logits, log_shares, stem.expand(batch, -1))


@dataclass(frozen=True)
class Plan:
    """What the router decided for a batch.

    ``stem_logits`` [B, C]; ``gate`` [B, E] over all allowed experts; ``weights`` [B, E], zero where
    an expert is not chosen, else renormalised to sum to one; ``spans`` [B, E, n, 2], start and end
    in seconds from the segment's start, in the order of time; ``promises`` [B, K_max + 1];
    ``window_scores`` [B, E, P] of the windows that ``window_edges_s`` (P + 1) bounds, from which
    the spans were picked. ``ranking``, ``log_shares`` and ``stem_shares`` are those of the
    ``Preference``; ``evidence`` [B, G] is what the promises were made from.
    """

    expert_names: tuple[str, ...]
    window_edges_s: tuple[float, ...]
    stem_logits: Tensor
    gate: Tensor
    weights: Tensor
    spans: Tensor
    promises: Tensor
    window_scores: Tensor
    ranking: Tensor
    log_shares: Tensor
    stem_shares: Tensor
    evidence: Tensor

    @property
    def preference(self) -> Preference:
        return Preference(self.ranking, self.log_shares, self.stem_shares)

    def stem_share(self, answered: Tensor) -> Tensor:
        """Weight of the stem [B] where ``answered`` [B] experts answered."""
        most = self.stem_shares.shape[1] - 1
        return self.stem_shares.gather(1, answered.clamp_max(most).unsqueeze(1)).squeeze(1)

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

    @property
    def saliency_share(self) -> Tensor:
        """How much of the windows' scores lies in those that are sent, [B]; 1 if none scores."""
        scores, total = self.window_scores, self.window_scores.sum((1, 2))
        sent = torch.zeros_like(scores).scatter(2, self.windows, 1.0)
        share = (scores * sent).sum((1, 2)) / total.clamp_min(1e-9)
        return share.masked_fill(total == 0, 1.0)

    def with_windows(self, windows: Tensor) -> Plan:
        """This plan with other windows [B, E, n]."""
        return replace(self, spans=spans_of(windows, self.window_edges_s))

    def with_counts(self, k: Tensor) -> Plan:
        """This plan with the first ``k`` [B] experts of each row."""
        return replace(self, weights=self.preference.choose(k))


def drop_rows(plan: Plan, answered: Tensor) -> Plan:
    """Ask only experts that have not ``answered`` [B, E]; weights keep their size."""
    return replace(plan, weights=plan.weights * ~answered)


def spans_of(windows: Tensor, edges_s: Sequence[float]) -> Tensor:
    """Windows [...] as spans [..., 2] in seconds between the edges of the grid."""
    edges = torch.tensor(edges_s, device=windows.device)
    return torch.stack([edges[windows], edges[windows + 1]], -1)


@lru_cache(maxsize=64)
def whole_spans(edges_s: tuple[float, ...], device: torch.device) -> Tensor:
    """Every window [P, 2] between the edges of the grid."""
    with torch.inference_mode(False):
        return spans_of(torch.arange(len(edges_s) - 1, device=device), edges_s)


def choose_experts(gate_logits: Tensor, k: Tensor, log_shares: Tensor | None = None) -> Tensor:
    """Weights [B, E] of the ``k`` [B] best experts by gate: a softmax over those chosen.

    Ties go to the first expert; a gate [B, E] that is not finite is never chosen. Where given,
    ``log_shares`` [B, E] replace the gate in the softmax.
    """
    allowed = torch.isfinite(gate_logits)
    usable = gate_logits.masked_fill(~allowed, float("-inf"))
    rank = usable.argsort(dim=1, descending=True, stable=True).argsort(1)
    chosen = (rank < k.unsqueeze(1)) & allowed
    shares = usable if log_shares is None else log_shares
    weights = torch.softmax(shares.masked_fill(~chosen, float("-inf")), 1)
    return weights.masked_fill(~chosen, 0.0)
