"""Held-out answers of candidates -> which become experts, and how much each counts.

Weights are learned on held-out answers: a plain mean falls below its best member where one
candidate is bad for a set. Experts are taken one after the other: of those whose gain in log loss
is within a standard error of the best one's, the one that gains most per millisecond, until the
best gain is within so many standard errors of nothing. Standard errors are over sources. The whole
table is kept: also what was not taken, and why. E experts, n clips, C classes, G numbers of
evidence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize

from xmoe.base.config import Frozen
from xmoe.base.task import Task
from xmoe.experts.probabilities import log_losses, to_probabilities
from xmoe.experts.ridge import Bools, Floats, Ints
from xmoe.policy.race import mean_and_error
from xmoe.policy.records import StackRow
from xmoe.routing.stack import Stack
from xmoe.training.promise import fold_units

# Of 0.3 to 0, the best on sources left out of runs with and without pretrained networks.
SMALL_L2 = 0.03
# With more, a copy of an expert would seem to gain; with none, few clips give wild weights.
JUDGING_L2 = 0.01
# Nats; two copies of one expert gain less from each other, however surely.
LEAST_GAIN = 1e-3
# Standard errors that a candidate must gain. The cheap ones are asked only where it pays, and half
# of one is enough (benchmarks/selection.py).
SURE_SE, CHEAP_SE = 1.0, 0.5
MOST_EXPERTS = 8
MOST_VALUES, LEAST_CLIPS = 4_000_000, 200  # logits that the search keeps refitting


@dataclass(frozen=True)
class HeldOut:
    """Answers of every candidate to clips that it was not fitted on.

    ``logits`` [n, C] by name, ``rows`` [n, C] of 0 and 1, ``units`` [n] the sources.
    """

    logits: Mapping[str, Floats]
    rows: Floats
    units: Ints
    task: Task

    def table(self, names: Sequence[str]) -> Floats:
        """Logits [E, n, C] of ``names``."""
        return np.stack([self.logits[name] for name in names])

    def pick(self, kept: Ints | Bools) -> HeldOut:
        logits = {name: answer[kept] for name, answer in self.logits.items()}
        return HeldOut(logits, self.rows[kept], self.units[kept], self.task)

    def losses(self, logits: Floats) -> Floats:
        """Log loss [n] of logits [n, C]."""
        return log_losses(logits, self.rows, self.task)

    def prior(self) -> Floats:
        """Logits [n, C] of an answer that knows how frequent classes are, and nothing else."""
        share = np.clip(self.rows.mean(axis=0), 1e-6, 1.0 - 1e-6)
        logits = np.log(share) if self.task.exclusive else np.log(share / (1.0 - share))
        return np.broadcast_to(logits, self.rows.shape)


class Selection(Frozen):
    """The experts in the order in which they were taken, their weights, and the whole table."""

    stack: Stack
    rows: tuple[StackRow, ...]
    loss: float
    accuracy: float


def fit_weights(table: Floats, rows: Floats, task: Task, *, l2: float = SMALL_L2) -> Floats:
    """Weights [E] >= 0 of logits [E, n, C] with the least log loss plus l2 times squares.

    The problem is convex; it starts from equal weights.
    """
    decisions = rows.size if not task.exclusive else len(rows)

    def loss(weights: Floats) -> tuple[float, Floats]:
        mixed = np.tensordot(weights, table, axes=1)
        wrong = to_probabilities(mixed, task) - rows
        slope = np.einsum("nc,enc->e", wrong, table) / decisions + 2.0 * l2 * weights
        total = log_losses(mixed, rows, task).mean() + l2 * np.square(weights).sum()
        return float(total), slope

    count = len(table)
    start = np.full(count, 1.0 / count)
    found = minimize(loss, start, jac=True, bounds=[(0.0, None)] * count, method="L-BFGS-B")
    return np.asarray(found.x)


def fit_stack(held: HeldOut, names: Sequence[str], *, l2: float = SMALL_L2) -> Stack:
    weights = fit_weights(held.table(names), held.rows, held.task, l2=l2)
    return Stack(weights=dict(zip(names, map(float, weights), strict=True)))


def select_experts(
    held: HeldOut,
    costs_ms: Mapping[str, float],
    *,
    always: Sequence[str] = (),
    at_least: int = 1,
    least_se: float = SURE_SE,
) -> Selection:
    """Take experts by held-out log loss per millisecond, at least ``at_least`` of them.

    ``costs_ms`` names the candidates, the baseline on the policy's own front end first: where none
    gains more than ``least_se`` of its standard errors, the first is taken. What a candidate gains
    is what it adds to the answers of ``always``, which are there anyway.
    """
    held = thin_out(held, len(costs_ms) + len(always))
    search = _Search(held, costs_ms, always, at_least=at_least, least_se=least_se)
    while search.take():
        pass
    search.take_better_alone()
    order = sorted(costs_ms, key=lambda name: search.place(name) or math.inf)
    logits = search.stack.combine(held.logits)
    loss = held.losses(logits)
    right = held.task.rightness(torch.from_numpy(logits), torch.from_numpy(held.rows))
    return Selection(
        stack=search.stack,
        rows=tuple(search.describe(name) for name in order),
        loss=round(float(loss.mean()), 4),
        accuracy=round(float(right.double().mean()), 4),
    )


def judge_addition(held: HeldOut, taken: Sequence[str], name: str, cost_ms: float) -> StackRow:
    """What one more answer gains beside all that are ``taken``, the stem first.

    The gain is on sources that the weights were not learned on: few clips may judge here.
    """
    folds, gains = fold_units(held.units), np.zeros(len(held.rows))
    for fold in np.unique(folds):
        known, fresh = held.pick(folds != fold), held.pick(folds == fold)
        losses = [
            fresh.losses(fit_stack(known, names, l2=JUDGING_L2).combine(fresh.logits))
            for names in (taken, [*taken, name])
        ]
        gains[folds == fold] = losses[0] - losses[1]
    gain = _Gain(name, cost_ms, *mean_and_error(gains, held.units), SURE_SE)
    weight = fit_stack(held, [*taken, name]).weights[name] if gain.counts else 0.0
    return StackRow(
        name=gain.name,
        ms=round(gain.ms, 3),
        alone=round(float(held.losses(held.logits[name]).mean()), 4),
        gain=gain.mean,
        gain_se=gain.error,
        taken=gain.counts,
        place=None,
        weight=round(weight, 4),
        reason=f"{'more' if gain.counts else 'no more'} than a standard error",
    )


def thin_out(held: HeldOut, candidates: int) -> HeldOut:
    """As many of the clips as the repeated search can afford, spread evenly."""
    most = max(MOST_VALUES // (candidates * held.rows.shape[1]), LEAST_CLIPS)
    if len(held.rows) <= most:
        return held
    kept = np.unique(np.linspace(0, len(held.rows) - 1, most).round().astype(np.int64))
    return held.pick(kept)


@dataclass(frozen=True)
class _Gain:
    """What one candidate takes off the loss of those taken: mean and standard error, in nats.

    It counts from ``least_se`` of these errors on.
    """

    name: str
    ms: float
    mean: float
    error: float
    least_se: float

    @property
    def counts(self) -> bool:
        """Whether it is sure enough, and worth an expert."""
        return self.mean > max(self.least_se * self.error, LEAST_GAIN)

    @property
    def per_ms(self) -> float:
        return self.mean / max(self.ms, 1e-6)


class _Search:
    """Experts taken so far, and what each of the others would add."""

    def __init__(
        self,
        held: HeldOut,
        costs_ms: Mapping[str, float],
        always: Sequence[str],
        *,
        at_least: int,
        least_se: float,
    ) -> None:
        self.held, self.costs_ms, self.always = held, costs_ms, list(always)
        self.at_least, self.least_se = at_least, least_se
        self.bar = "its standard error" if least_se == 1 else f"{least_se:g} standard errors"
        self.logits = held.prior()
        self.stack = Stack(weights={})
        if always:
            self.stack = fit_stack(held, self.always)
            self.logits = fit_stack(held, self.always, l2=0.0).combine(held.logits)
        self.alone = {name: float(held.losses(held.logits[name]).mean()) for name in costs_ms}
        self.taken: dict[str, tuple[_Gain, str]] = {}
        self.passed: dict[str, _Gain] = {}

    def place(self, name: str) -> int | None:
        return list(self.taken).index(name) + 1 if name in self.taken else None

    def take(self) -> bool:
        """Take one more expert where it pays; returns whether it did."""
        gains = [self._gain(name) for name in self.costs_ms if name not in self.taken]
        self.passed = {gain.name: gain for gain in gains}
        best = max(gains, key=lambda gain: gain.mean, default=None)
        if best is None or len(self.taken) == MOST_EXPERTS:
            return False
        if not best.counts and len(self.taken) >= self.at_least:
            return False
        near = [gain for gain in gains if gain.counts and gain.mean >= best.mean - best.error]
        # Few sources: the largest of many gains that chance explains is the luckiest, not the best.
        chosen = max(near, key=lambda gain: gain.per_ms, default=gains[0])
        why = "it gains most"
        if not near:
            why = f"no candidate gains more than {self.bar}: the baseline stays"
        elif chosen is not best:
            why = (
                f"it gains most per ms of {len(near)} within a standard error of {best.name} "
                f"({best.mean:.3f} nats for {best.ms:.3g} ms)"
            )
        self._add(chosen, why)
        return True

    def take_better_alone(self) -> None:
        """Take whoever alone beats the stack and adds to it enough to count.

        So no mixture loses to one of its candidates by more than chance.
        """
        loss = float(self.held.losses(self.logits).mean())
        best = min(self.alone, key=self.alone.__getitem__)
        if best in self.taken or self.alone[best] >= loss:
            return
        gain = self.passed[best]
        if gain.counts:
            self._add(gain, "alone it beats those taken before it")

    def describe(self, name: str) -> StackRow:
        place = self.place(name)
        if place is not None:
            gain, reason = self.taken[name]
        else:
            gain = self.passed[name]
            reason = f"no more than {self.bar}" if not gain.counts else "enough are taken"
        return StackRow(
            name=name,
            ms=round(self.costs_ms[name], 3),
            alone=round(self.alone[name], 4),
            gain=gain.mean,
            gain_se=gain.error,
            taken=place is not None,
            place=place,
            weight=round(self.stack.weights.get(name, 0.0), 4),
            reason=reason,
        )

    def _add(self, gain: _Gain, why: str) -> None:
        self.taken[gain.name] = (gain, why)
        names = [*self.always, *self.taken]
        self.stack = fit_stack(self.held, names)
        # The search weighs without the L2 term: shared between two copies it costs less, and the
        # second copy would seem to gain.
        plain = fit_stack(self.held, names, l2=0.0)
        self.logits = plain.combine(self.held.logits)

    def _gain(self, name: str) -> _Gain:
        stack = fit_stack(self.held, [*self.always, *self.taken, name], l2=0.0)
        before, after = self.logits, stack.combine(self.held.logits)
        gains = self.held.losses(before) - self.held.losses(after)
        found = mean_and_error(gains, self.held.units)
        return _Gain(name, self.costs_ms[name], *found, self.least_se)
