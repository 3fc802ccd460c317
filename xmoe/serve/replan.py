"""A plan + what one request allows, or what was lost -> another plan. Plain functions on plans."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from xmoe.experts.protocol import Inputs
from xmoe.mixture.plan import Plan, choose_experts

Batch = TypeVar("Batch", Plan, Inputs)


def with_counts(plan: Plan, k: Tensor) -> Plan:
    """Return the plan with the ``k`` [B] best experts of each row."""
    return replace(plan, weights=choose_experts(plan.gate.log(), k))


def without_experts(plan: Plan, lost: Iterable[str], rows: Tensor | None = None) -> Plan:
    """Return the plan in which the next-ranked experts stand in for those that are lost.

    Each row keeps its K where enough experts are left. ``rows`` [B] marks the rows to change.
    """
    gone = torch.tensor([name in set(lost) for name in plan.expert_names])
    gate = plan.gate.masked_fill(gone, 0.0)
    weights = choose_experts(gate.log(), plan.k)
    if rows is not None:
        weights = torch.where(rows[:, None], weights, plan.weights)
    return replace(plan, weights=weights)


def lost_mass(plan: Plan, lost: Iterable[str]) -> Tensor:
    """Return the share of the planned weight [B] that lies on lost experts."""
    gone = torch.tensor([name in set(lost) for name in plan.expert_names])
    return (plan.weights * gone).sum(1)


def drop_rows(plan: Plan, answered: Tensor) -> Plan:
    """Return the plan that asks only who has not ``answered`` [B, E]; weights keep their size."""
    return replace(plan, weights=plan.weights * ~answered)


def slice_rows(batch: Batch, first: int, last: int) -> Batch:
    """Return a plan, or what it is fed from, for rows ``first`` to ``last``."""
    return replace(batch, **{name: value[first:last] for name, value in _tensors(batch).items()})


def to_cpu(batch: Batch) -> Batch:
    """Return a plan, or what it is fed from, in main memory, from where it is sent."""
    tensors = _tensors(batch)
    if all(value.device.type == "cpu" for value in tensors.values()):
        return batch
    return replace(batch, **{name: value.cpu() for name, value in tensors.items()})


def _tensors(batch: Plan | Inputs) -> dict[str, Any]:
    return {name: value for name, value in vars(batch).items() if isinstance(value, Tensor)}
