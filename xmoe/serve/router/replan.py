"""A plan without the experts that were lost, or for some of its rows. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from xmoe.experts.protocol import Inputs
from xmoe.mixture.plan import Plan

Batch = TypeVar("Batch", Plan, Inputs)


def without_experts(plan: Plan, lost: Iterable[str], rows: Tensor | None = None) -> Plan:
    """The plan in which the next-ranked experts replace those that are lost.

    Each row keeps its K while enough experts are left. ``rows`` [B] marks the rows to change.
    """
    gone = torch.tensor([name in set(lost) for name in plan.expert_names])
    weights = plan.preference.without(gone).choose(plan.k)
    if rows is not None:
        weights = torch.where(rows[:, None], weights, plan.weights)
    return replace(plan, weights=weights)


def lost_mass(plan: Plan, lost: Iterable[str]) -> Tensor:
    """The share of the planned weight [B] that lies on lost experts."""
    gone = torch.tensor([name in set(lost) for name in plan.expert_names])
    return (plan.weights * gone).sum(1)


def slice_rows(batch: Batch, first: int, last: int) -> Batch:
    """Rows ``first`` to ``last`` of a plan or of its inputs."""
    values: dict[str, Any] = {n: value[first:last] for n, value in _tensors(batch).items()}
    sound = getattr(batch, "sound", None)
    if sound is not None:
        values["sound"] = sound.rows(slice(first, last))
    return replace(batch, **values)


def to_cpu(batch: Batch) -> Batch:
    """A plan or its inputs in main memory, from where they are sent."""
    tensors = _tensors(batch)
    if all(value.device.type == "cpu" for value in tensors.values()):
        return batch
    return replace(batch, **{name: value.cpu() for name, value in tensors.items()})


def _tensors(batch: Plan | Inputs) -> dict[str, Any]:
    return {name: value for name, value in vars(batch).items() if isinstance(value, Tensor)}
