"""Held-out answers + what experts cost + a budget -> the routing of a run, and what is an event."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from xmoe.annotate.thresholds import Thresholds, find_thresholds
from xmoe.base.config import RoutingConfig
from xmoe.experts.probabilities import to_probabilities
from xmoe.experts.ridge import Floats
from xmoe.routing.stack import Stack
from xmoe.training.budget import (
    Doubt,
    Priced,
    answers_at,
    choose_doubt,
    choose_price,
    top_probability,
)
from xmoe.training.closed import rightness
from xmoe.training.promises import HeldTable, Promised, promise

_WHOLE = "experts of the kind kernels hear whole segments"


@dataclass(frozen=True)
class Costs:
    """Milliseconds of one segment: of the glance, and of each expert by name."""

    glance_ms: float
    experts_ms: Mapping[str, float]


@dataclass(frozen=True)
class Settled:
    """Promises, their price and the routing that follows; what is doubtful, and what an event."""

    promised: Promised
    priced: Priced
    doubt: Doubt
    routing: RoutingConfig
    events: Thresholds


def settle_routing(
    table: HeldTable,
    stacks: Sequence[Stack],
    costs: Costs,
    budget: str | float,
    classes: Sequence[str],
) -> Settled:
    """Return the routing that held-out answers support for a budget.

    ``stacks[k]`` weighs the stem and the first k experts. Raises ConfigError for a bad budget.
    """
    promised = promise(table, stacks, costs.experts_ms)
    priced = choose_price(promised, budget, costs.glance_ms)
    temperatures = tuple(1.0 / sum(stack.weights.values()) for stack in stacks)
    logits = answers_at(promised, promised.asked_at(priced.price), temperatures)[promised.clean]
    doubt = _judge_doubt(promised, logits)
    routing = RoutingConfig(
        budget=budget,
        k_price=priced.price,
        costs_ms=promised.promises.costs_ms,
        glance_ms=round(costs.glance_ms, 4),
        temperatures=temperatures,
        uncertain_below=doubt.threshold,
        reasons={"windows": _WHOLE, "k": priced.reason, "uncertain": doubt.reason},
    )
    return Settled(promised, priced, doubt, routing, _find_events(promised, logits, classes))


def _judge_doubt(promised: Promised, logits: Floats) -> Doubt:
    """Return the threshold of doubt for calibrated held-out logits [n, C] of the clean rows."""
    if not promised.task.exclusive:
        reason = "several labels: no single top probability"
        return Doubt(threshold=0.0, share=0.0, wrong_under=0.0, wrong_over=0.0, reason=reason)
    truth, units = promised.rows[promised.clean], promised.depths.units[promised.clean]
    right = rightness(logits, truth, promised.task)
    return choose_doubt(top_probability(logits, promised.task), right, units)


def _find_events(promised: Promised, logits: Floats, classes: Sequence[str]) -> Thresholds:
    """Return what is an event, by held-out answers to the clean rows."""
    truth = promised.rows[promised.clean].astype(bool)
    return find_thresholds(
        to_probabilities(logits, promised.task),
        truth,
        truth.sum(axis=0),
        classes=classes,
        exclusive=promised.task.exclusive,
    )
