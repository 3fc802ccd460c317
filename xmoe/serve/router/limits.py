"""What one request allows: how many experts, and at what price."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator
from pydantic_core import PydanticCustomError
from torch import Tensor

from xmoe.base.config import ASK_ALL, LATENCY_K, Frozen, RoutingConfig
from xmoe.base.errors import InputError
from xmoe.glance.router import choose_counts, count_costs

# Prices of an expert: the gain in probability that it must promise; none promises the last.
PRICES = (0.0, *(10.0 ** (step / 8 - 4) for step in range(33)))
MS = "ms"
Milliseconds = Annotated[str, Field(pattern=r"^\d+(\.\d+)?ms$")]


def _name_all_forms(value: Any, check: ValidatorFunctionWrapHandler) -> Any:
    """One message for a budget of no form; pydantic has one for each, and the first misleads."""
    try:
        return check(value)
    except ValidationError:
        forms = "latency, accuracy, all, a mean number of experts, or a mean cost such as 20ms"
        raise PydanticCustomError("budget", forms) from None


Budget = Annotated[
    Literal["latency", "accuracy", "all"] | Annotated[float, Field(ge=0.0)] | Milliseconds,
    WrapValidator(_name_all_forms),
]


class Limits(Frozen):
    """How many experts a request may ask.

    ``k_max`` bounds them per segment. ``budget`` bounds a mean over the recording's segments: the
    number of experts, or their cost as in ``"20ms"``, what every segment costs included.
    ``"latency"`` means ``LATENCY_K`` experts. ``"accuracy"`` is the price of a run trained for it;
    in other runs it asks whenever an expert promises anything at all. ``"all"`` asks every expert,
    whatever it promises.
    """

    k_max: int | None = Field(default=None, ge=0)
    budget: Budget | None = None

    @property
    def limits(self) -> Limits:
        """These alone, of a request with more options."""
        return Limits(k_max=self.k_max, budget=self.budget)

    @property
    def budget_ms(self) -> float | None:
        """The mean milliseconds allowed, None where the budget is of another kind."""
        if isinstance(self.budget, str) and self.budget.endswith(MS):
            return float(self.budget.removesuffix(MS))
        return None

    def check(self, routing: RoutingConfig) -> None:
        """Raise InputError for milliseconds where the run does not know what experts cost."""
        if self.budget_ms is not None and not routing.costs_ms:
            raise InputError(
                "this run does not know what its experts cost",
                where="budget",
                mend="name a mean number of experts, latency, accuracy or all",
            )


def count_experts(
    promises: Tensor, limits: Sequence[Limits], routing: RoutingConfig, most: int | None = None
) -> Tensor:
    """K [B] for promises [B, K_max + 1], by the ``limits`` of each row's request.

    ``most`` bounds what is asked at a price before any expert has answered. Rows of one request are
    adjacent and share one ``Limits`` object.
    """
    bound = promises.shape[1] - 1 if most is None else most
    parts, first = [], 0
    for _, group in groupby(limits, key=id):
        rows = list(group)
        part = promises[first : first + len(rows)]
        parts.append(_count_request(part, rows[0], routing, bound))
        first += len(rows)
    return torch.cat(parts)


def _count_request(promises: Tensor, limits: Limits, routing: RoutingConfig, most: int) -> Tensor:
    """K [n] for the segments of one request: the lowest price that keeps its budget."""
    deepest = promises.shape[1] - 1
    k_max = deepest if limits.k_max is None else min(limits.k_max, deepest)
    costs_ms, price = routing.costs_ms, routing.k_price

    def choose(price: float) -> Tensor:
        first = k_max if price <= ASK_ALL else min(k_max, most)
        return choose_counts(promises, price, first, costs_ms=costs_ms)

    if limits.budget == "accuracy" and routing.budget != "accuracy":
        price = min(price, 0.0)
    if limits.budget == "all":
        price = ASK_ALL
    counts = choose(price)
    in_ms = limits.budget_ms is not None
    bound = LATENCY_K if limits.budget == "latency" else limits.budget
    bound = limits.budget_ms if in_ms else bound
    if not isinstance(bound, float):
        return counts
    spent = count_costs(promises.shape[1], costs_ms if in_ms else (), promises.device)
    always = routing.glance_ms if in_ms else 0.0
    unit_ms = min(costs_ms, default=1.0)
    for dearer in (one / unit_ms for one in PRICES):
        if always + float(spent[counts].float().mean()) <= bound:
            break
        if dearer > price:
            counts = choose(dearer)
    return counts
