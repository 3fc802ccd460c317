"""What one request allows: how many experts, and at what price."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from xmoe.base.config import LATENCY_K, Frozen
from xmoe.glance.router import choose_counts

PRICES = (0.0, *(10.0 ** (step / 8 - 4) for step in range(33)))


class Limits(Frozen):
    """How many experts a request may ask.

    ``k_max`` bounds them per segment. ``budget`` bounds their mean over the recording's segments:
    a number, or ``"latency"``, which means ``LATENCY_K``; ``"accuracy"`` asks whenever an expert
    promises anything at all.
    """

    k_max: int | None = Field(default=None, ge=0)
    budget: Literal["latency", "accuracy"] | Annotated[float, Field(ge=0.0)] | None = None


def count_experts(promises: Tensor, limits: Sequence[Limits], k_price: float) -> Tensor:
    """Return K [B] for promises [B, K_max + 1], by the ``limits`` of each row's request.

    Rows of one request lie side by side and share one ``Limits`` object.
    """
    parts, first = [], 0
    for _, group in groupby(limits, key=id):
        rows = list(group)
        part = promises[first : first + len(rows)]
        parts.append(_count_request(part, rows[0], k_price))
        first += len(rows)
    return torch.cat(parts)


def _count_request(promises: Tensor, limits: Limits, k_price: float) -> Tensor:
    """Return K [n] for the segments of one request: the lowest price that keeps its budget."""
    most = promises.shape[1] - 1
    k_max = most if limits.k_max is None else min(limits.k_max, most)
    budget = LATENCY_K if limits.budget == "latency" else limits.budget
    if budget == "accuracy":
        return choose_counts(promises, min(k_price, 0.0), k_max)
    counts = choose_counts(promises, k_price, k_max)
    if budget is None:
        return counts
    for price in PRICES:
        if float(counts.float().mean()) <= float(budget):
            return counts
        counts = choose_counts(promises, max(price, k_price), k_max)
    return choose_counts(promises, k_price, min(k_max, int(float(budget))))
