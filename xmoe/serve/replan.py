"""A plan + what one request allows, or what was lost -> another plan. Plain functions on plans."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from xmoe.mixture.plan import Plan, choose_experts


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


def slice_rows(plan: Plan, first: int, last: int) -> Plan:
    """Return the plan of rows ``first`` to ``last``."""
    return replace(plan, **{name: value[first:last] for name, value in _tensors(plan).items()})


def to_cpu(plan: Plan) -> Plan:
    """Return the plan with all of it in main memory, from where it is sent."""
    if plan.weights.device.type == "cpu":
        return plan
    return replace(plan, **{name: value.cpu() for name, value in _tensors(plan).items()})


def _tensors(plan: Plan) -> dict[str, Any]:
    return {name: value for name, value in vars(plan).items() if isinstance(value, Tensor)}
