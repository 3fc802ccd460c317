"""Held-out answers + what experts cost + a budget -> the routing of a run, and event thresholds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from xmoe.annotate.thresholds import Thresholds, find_thresholds
from xmoe.base.config import RoutingConfig
from xmoe.base.task import Task
from xmoe.experts.probabilities import to_probabilities
from xmoe.experts.ridge import Floats, Ints
from xmoe.mixture.moe import MoE
from xmoe.predict.conformal import Conformal, fit_conformal
from xmoe.routing.stack import Stack
from xmoe.training.budget import (
    Doubt,
    Priced,
    answers_at,
    choose_doubt,
    choose_price,
    no_doubt,
)
from xmoe.training.closed import rightness
from xmoe.training.observe import router_of
from xmoe.training.promises import HeldTable, Promised, promise

_WHOLE = "whole segments; networks limited to a few windows hear the most salient ones"


@dataclass(frozen=True)
class Costs:
    """Milliseconds of one segment: of each expert by name, and what times a glance.

    A glance is timed when the router is filled: what it reads decides what a glance measures.
    """

    experts_ms: Mapping[str, float]
    time_glance: Callable[[], float]


@dataclass(frozen=True)
class Settled:
    """Promises, their price and the routing that follows; doubt, events and sets of labels.

    ``conformal`` is None where a recording may have several labels.
    """

    promised: Promised
    priced: Priced
    doubt: Doubt
    routing: RoutingConfig
    events: Thresholds
    conformal: Conformal | None


def settle_routing(
    model: MoE,
    table: HeldTable,
    stacks: Sequence[Stack],
    costs: Costs,
    budget: str | float,
    classes: Sequence[str],
) -> Settled:
    """Fill the model's router with what held-out answers support, and route by a budget.

    ``stacks[k]`` weighs the stem and the first k experts. Raises ConfigError for a bad budget.
    """
    promised = promise(table, stacks, costs.experts_ms)
    router_of(model).fill(stacks, promised.promises, table.experts)
    glance_ms = costs.time_glance()
    temperatures = tuple(1.0 / sum(stack.weights.values()) for stack in stacks)
    priced = choose_price(promised, budget, glance_ms, temperatures)
    asked = promised.asked_at(priced.price)
    held = _HeldOut.of(promised, answers_at(promised, asked, temperatures)[promised.clean])
    doubt = _judge_doubt(held)
    routing = RoutingConfig(
        budget=budget,
        k_price=priced.price,
        costs_ms=promised.promises.costs_ms,
        glance_ms=round(glance_ms, 4),
        temperatures=temperatures,
        uncertain_below=doubt.threshold,
        reasons={
            "windows": _WHOLE,
            "k": priced.reason,
            "promise": promised.reading,
            "uncertain": doubt.reason,
        },
    )
    return Settled(promised, priced, doubt, routing, _find_events(held, classes), _cover(held))


@dataclass(frozen=True)
class _HeldOut:
    """Calibrated held-out answers: ``segments`` [n, C] with their truth, ``clips`` [m, C] likewise.

    ``units`` [m] are the sources of the clips.
    """

    segments: Floats
    truth: Floats
    clips: Floats
    clip_truth: Floats
    units: Ints
    task: Task

    @classmethod
    def of(cls, promised: Promised, logits: Floats) -> _HeldOut:
        owners, truth = promised.clips, promised.rows[promised.clean]
        count = np.bincount(owners)[:, None]
        pooled = np.zeros((len(count), logits.shape[1]))
        np.add.at(pooled, owners, logits)
        first = np.unique(owners, return_index=True)[1]
        units = promised.depths.units[promised.clean][first]
        return cls(logits, truth, pooled / count, truth[first], units, promised.task)


def _judge_doubt(held: _HeldOut) -> Doubt:
    if not held.task.exclusive:
        return no_doubt("several labels: no single top probability")
    right = rightness(held.clips, held.clip_truth, held.task)
    top: Floats = to_probabilities(held.clips, held.task).max(axis=1)
    return choose_doubt(top, right, held.units)


def _cover(held: _HeldOut) -> Conformal | None:
    if not held.task.exclusive:
        return None
    p = to_probabilities(held.clips, held.task)
    return fit_conformal(p, held.clip_truth.argmax(axis=1), held.units)


def _find_events(held: _HeldOut, classes: Sequence[str]) -> Thresholds:
    truth = held.truth.astype(bool)
    return find_thresholds(
        to_probabilities(held.segments, held.task),
        truth,
        held.clip_truth.astype(np.int64).sum(axis=0),
        classes=classes,
        exclusive=held.task.exclusive,
    )
