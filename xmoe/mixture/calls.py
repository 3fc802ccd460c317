"""Requests -> replies: the one seam between a process and a cluster, in two forms.

Here an expert is a function from a request to logits. Far away it is a ``CallExpert``, which takes
time and may fail; ``xmoe.serve`` waits for many at once. Both give the same ``ExpertReply``, and an
expert that did not answer is an absent key.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Literal

import torch
from torch import Tensor

from xmoe.experts.protocol import ExpertReply, ExpertRequest

FailureKind = Literal["dead", "timeout", "overloaded", "error", "shut_out", "other_run"]

# request -> logits [b, C]
AskExpert = Callable[[ExpertRequest], Tensor]
# (request, seconds left) -> logits [b, C]; raises CallFailed
CallExpert = Callable[[ExpertRequest, float], Awaitable[Tensor]]


class CallFailed(Exception):
    """An expert did not answer; ``kind`` says why.

    A ``dead`` replica is tried again: another may live; and one that has only ``other_run`` than
    the router's: another may have it. An ``overloaded`` one would be made worse, and a ``timeout``
    has used its time up. ``shut_out`` was not asked: its breaker is open.
    """

    def __init__(self, kind: FailureKind) -> None:
        super().__init__(kind)
        self.kind: FailureKind = kind


def call_experts(
    experts: Mapping[str, AskExpert], requests: Iterable[ExpertRequest]
) -> dict[str, ExpertReply]:
    """Return the reply to each request whose expert is there."""
    return {
        request.name: ExpertReply(request.rows, experts[request.name](request))
        for request in requests
        if request.name in experts
    }


def merge_replies(
    one: Mapping[str, ExpertReply], other: Mapping[str, ExpertReply]
) -> dict[str, ExpertReply]:
    """Return the replies of both; an expert in both was asked about different rows."""
    merged = dict(one)
    for name, reply in other.items():
        if name in merged:
            before = merged[name]
            rows = torch.cat([before.rows, reply.rows])
            reply = ExpertReply(rows, torch.cat([before.logits, reply.logits]))
        merged[name] = reply
    return merged
