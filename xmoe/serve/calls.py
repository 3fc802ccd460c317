"""What a call to an expert may come to, and who makes it.

``CallExpert`` is the seam between one process and a cluster: the router holds one for each expert
and knows nothing of replicas. Everything that can go wrong is a ``CallFailed`` with a kind.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Literal

from torch import Tensor

from xmoe.mixture.plan import ExpertRequest

FailureKind = Literal["dead", "timeout", "overloaded", "error", "shut_out", "other_run"]

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
