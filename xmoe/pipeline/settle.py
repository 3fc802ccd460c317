"""Held-out answers + what experts cost + a budget -> the routing of a run, and what is an event."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from xmoe.annotate.thresholds import Thresholds, find_thresholds
from xmoe.base.config import RoutingConfig
from xmoe.base.task import Task
from xmoe.experts.probabilities import to_probabilities
from xmoe.experts.ridge import Floats, Ints
from xmoe.predict.conformal import Conformal, fit_conformal
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

_WHOLE = "whole segments; networks that name how many windows hear the most salient ones"


@dataclass(frozen=True)
class Costs:
    """Milliseconds of one segment: of the glance, and of each expert by name."""

    glance_ms: float
    experts_ms: Mapping[str, float]


@dataclass(frozen=True)
class Settled:
    """Promises, their price and the routing that follows; what is doubtful, and what an event.

    ``conformal`` are sets of labels, None where a recording may have several.
    """

    promised: Promised
    priced: Priced
    doubt: Doubt
    routing: RoutingConfig
    events: Thresholds
    conformal: Conformal | None


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
    temperatures = tuple(1.0 / sum(stack.weights.values()) for stack in stacks)
    priced = choose_price(promised, budget, costs.glance_ms, temperatures)
    asked = promised.asked_at(priced.price)
    heard = _Heard.of(promised, answers_at(promised, asked, temperatures)[promised.clean])
    doubt = _judge_doubt(heard)
    routing = RoutingConfig(
        budget=budget,
        k_price=priced.price,
        costs_ms=promised.promises.costs_ms,
        glance_ms=round(costs.glance_ms, 4),
        temperatures=temperatures,
        uncertain_below=doubt.threshold,
        reasons={"windows": _WHOLE, "k": priced.reason, "uncertain": doubt.reason},
    )
    return Settled(promised, priced, doubt, routing, _find_events(heard, classes), _cover(heard))


@dataclass(frozen=True)
class _Heard:
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
    def of(cls, promised: Promised, logits: Floats) -> _Heard:
        owners, truth = promised.clips, promised.rows[promised.clean]
        count = np.bincount(owners)[:, None]
        pooled = np.zeros((len(count), logits.shape[1]))
        np.add.at(pooled, owners, logits)
        first = np.unique(owners, return_index=True)[1]
        units = promised.depths.units[promised.clean][first]
        return cls(logits, truth, pooled / count, truth[first], units, promised.task)


def _judge_doubt(heard: _Heard) -> Doubt:
    """Return the threshold under which the answer to a recording is doubtful."""
    if not heard.task.exclusive:
        reason = "several labels: no single top probability"
        return Doubt(threshold=0.0, share=0.0, wrong_under=0.0, wrong_over=0.0, reason=reason)
    right = rightness(heard.clips, heard.clip_truth, heard.task)
    return choose_doubt(top_probability(heard.clips, heard.task), right, heard.units)


def _cover(heard: _Heard) -> Conformal | None:
    """Return sets of labels, where a recording has one."""
    if not heard.task.exclusive:
        return None
    p = to_probabilities(heard.clips, heard.task)
    return fit_conformal(p, heard.clip_truth.argmax(axis=1), heard.units)


def _find_events(heard: _Heard, classes: Sequence[str]) -> Thresholds:
    """Return what is an event, by answers to segments."""
    truth = heard.truth.astype(bool)
    return find_thresholds(
        to_probabilities(heard.segments, heard.task),
        truth,
        heard.clip_truth.astype(np.int64).sum(axis=0),
        classes=classes,
        exclusive=heard.task.exclusive,
    )
