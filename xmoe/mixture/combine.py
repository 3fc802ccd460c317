"""Stem logits, expert logits and gate -> one answer.

An expert that did not answer is an absent key. The weights of those that did are renormalised, so
any subset of experts gives a sane answer; with none left, the stem's own head answers (K = 0).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from xmoe.experts.protocol import ExpertReply
from xmoe.glance.router import STEM_SHARE
from xmoe.mixture.plan import Plan


@dataclass(frozen=True)
class Combined:
    """The answer of a batch.

    ``logits`` [B, C]; ``weights`` [B, E] as used, after renormalisation; ``answered`` [B, E] marks
    experts that gave a finite answer, ``missing`` [B, E] those that were chosen and did not;
    ``gate_mass`` [B] is the share of the planned weight that answered (1 where none was planned).
    """

    logits: Tensor
    weights: Tensor
    answered: Tensor
    missing: Tensor
    gate_mass: Tensor

    @property
    def degraded(self) -> Tensor:
        """Whether an expert was missing, [B]."""
        return self.missing.any(1)


def blend(
    stem_logits: Tensor, expert_logits: Tensor, weights: Tensor, stem_share: Tensor | None = None
) -> Tensor:
    """Mix stem logits [B, C] and expert logits [E, B, C] by weights [B, E] into logits [B, C].

    Rows of ``weights`` sum to one, or to zero where no expert answers. ``stem_share`` [B] is the
    weight of the stem; by default a third where an expert answers.
    """
    mixed = (weights.unsqueeze(1) @ expert_logits.transpose(0, 1)).squeeze(1)
    if stem_share is not None:
        share = stem_share.unsqueeze(1)
        return stem_logits * share + (1.0 - share) * mixed
    answered = weights.sum(1, keepdim=True)
    return stem_logits * (1.0 - answered * (1.0 - STEM_SHARE)) + (1.0 - STEM_SHARE) * mixed


def stack_replies(plan: Plan, replies: Mapping[str, ExpertReply]) -> tuple[Tensor, Tensor]:
    """Expert logits [E, B, C], and whether each expert answered each clip, [B, E].

    A non-finite reply counts as none, and logits without a reply are zero.
    """
    batch, num_classes = plan.stem_logits.shape
    device = plan.stem_logits.device
    logits = torch.zeros(len(plan.expert_names), batch, num_classes, device=device)
    answered = torch.zeros(batch, len(plan.expert_names), dtype=torch.bool, device=device)
    present = [(i, replies[name]) for i, name in enumerate(plan.expert_names) if name in replies]
    if present:
        values = torch.cat([reply.logits for _, reply in present]).to(logits.dtype)
        rows = torch.cat([reply.rows for _, reply in present])
        experts = torch.tensor([i for i, reply in present for _ in range(len(reply.rows))])
        experts = experts.to(device)
        finite = torch.isfinite(values).all(1)
        logits[experts, rows] = values.masked_fill(~finite.unsqueeze(1), 0.0)
        answered[rows, experts] = finite
    return logits, answered


def combine(plan: Plan, replies: Mapping[str, ExpertReply]) -> Combined:
    """The answer of a plan from its replies; a non-finite reply counts as missing."""
    logits, answered = stack_replies(plan, replies)
    planned = plan.weights > 0
    weights = plan.weights * answered
    mass = weights.sum(1, keepdim=True)
    weights = weights / mass.masked_fill(mass == 0, 1.0)
    share = plan.stem_share((weights > 0).sum(1))
    return Combined(
        logits=blend(plan.stem_logits, logits, weights, share),
        weights=weights,
        answered=answered,
        missing=planned & ~answered,
        gate_mass=mass.squeeze(1).masked_fill(~planned.any(1), 1.0),
    )


def mark_missing(wanted: Tensor, combined: Combined) -> Combined:
    """Mark as missing the experts that were ``wanted`` [B, E] and did not answer."""
    return replace(combined, missing=wanted & ~combined.answered)
