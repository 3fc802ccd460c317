"""A plan -> requests -> replies: the one seam between a process and a cluster, in two forms.

Here an expert is a function from a request to logits. On a cluster it is a ``CallExpert``, which
takes time and may fail; ``xmoe.serve`` waits for many at once. Both give the same ``ExpertReply``,
and an expert that did not answer is an absent key. The stem map is uint8 with one scale per clip,
here as on the wire, so that a plan has the same answer wherever it is carried out.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from xmoe.base.config import ExpertSpec
from xmoe.experts.protocol import ExpertReply, ExpertRequest, Inputs
from xmoe.experts.registry import pack_payload
from xmoe.mixture.plan import Plan

LEVELS = 255  # of uint8

FailureKind = Literal["dead", "timeout", "overloaded", "error", "shut_out", "other_run"]

# request -> logits [b, C]
AskExpert = Callable[[ExpertRequest], Tensor]
# (request, seconds left) -> logits [b, C]; raises CallFailed
CallExpert = Callable[[ExpertRequest, float], Awaitable[Tensor]]


class CallFailed(Exception):
    """An expert did not answer; ``kind`` says why.

    The call is tried on another replica after ``dead``, and after ``other_run``: this replica holds
    another run than the router's. An ``overloaded`` expert would suffer from a retry, and a
    ``timeout`` has spent its time. ``shut_out`` was never sent: its breaker is open.
    """

    def __init__(self, kind: FailureKind) -> None:
        super().__init__(kind)
        self.kind: FailureKind = kind


def quantise(features: Tensor) -> tuple[Tensor, Tensor]:
    """Quantise a non-negative map to uint8 [B, D, R, W] with one scale per clip [B]."""
    peak = features.amax((1, 2, 3)).clamp_min(1e-8)
    scale = peak / LEVELS
    levels = (features / scale[:, None, None, None]).round().clamp(0, LEVELS)
    return levels.to(torch.uint8), scale


def make_requests(plan: Plan, inputs: Inputs, experts: Sequence[ExpertSpec]) -> list[ExpertRequest]:
    """One request, with all of its clips, for each expert that any clip chose.

    ``experts`` are those of the plan, in its order.
    """
    chosen = (plan.weights > 0).cpu().numpy()
    requests = []
    for index in np.flatnonzero(chosen.any(0)).tolist():
        rows = torch.from_numpy(np.flatnonzero(chosen[:, index])).to(plan.weights.device)
        spans = plan.spans[rows, index]
        payload = pack_payload(experts[index], inputs, rows, spans)
        requests.append(ExpertRequest(plan.expert_names[index], rows, payload))
    return requests


def call_experts(
    experts: Mapping[str, AskExpert], requests: Iterable[ExpertRequest]
) -> dict[str, ExpertReply]:
    return {
        request.name: ExpertReply(request.rows, experts[request.name](request))
        for request in requests
        if request.name in experts
    }


def merge_replies(
    one: Mapping[str, ExpertReply], other: Mapping[str, ExpertReply]
) -> dict[str, ExpertReply]:
    """Replies of both; an expert in both was asked about different rows."""
    merged = dict(one)
    for name, reply in other.items():
        if name in merged:
            before = merged[name]
            rows = torch.cat([before.rows, reply.rows])
            reply = ExpertReply(rows, torch.cat([before.logits, reply.logits]))
        merged[name] = reply
    return merged
