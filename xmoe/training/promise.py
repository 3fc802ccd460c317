"""Held-out answers at every depth -> promises that they are right, and what asking by them brings.

A promise is a logistic regression on standardised evidence, regularised by what does best on
sources left out. It is fitted on held-out answers only: answers to clips that were fitted on are
right, and would teach it nothing. Noisy copies of the clips show it what it is for. n rows (clips
and copies), K experts in their order, G numbers of evidence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from xmoe.experts.ridge import Floats, Ints
from xmoe.routing.promise import REACH, Promise, Promises

STRENGTHS: tuple[float, ...] = (1e-3, 1e-2, 1e-1, 1.0)
NUM_FOLDS = 5
# Below 0 more experts are asked than is promised to gain: a promise is no certainty.
PRICES: tuple[float, ...] = tuple(
    np.concatenate([-np.geomspace(0.03, 1e-5, 20), [0.0], np.geomspace(1e-5, 1.0, 60)]).tolist()
)
SHOWN_SHARES = (0.1, 0.2, 0.3, 0.5)  # of the cost of all experts
_LEAST_SCALE = 1e-6  # evidence that varies less is constant


@dataclass(frozen=True)
class Depths:
    """What is known of each row after 0, 1, ... K experts.

    ``evidence[d]`` [n, G_d], ``right`` [n, K + 1] from 0 to 1, ``units`` [n] name the sources.
    ``softened`` [n, K + 1] is what promises are fitted to, ``right`` without.
    """

    order: tuple[str, ...]
    costs_ms: tuple[float, ...]
    evidence: tuple[Floats, ...]
    right: Floats
    units: Ints
    softened: Floats | None = None

    @property
    def aims(self) -> Floats:
        return self.right if self.softened is None else self.softened

    def rows(self, kept: Ints) -> Depths:
        return replace(
            self,
            evidence=tuple(table[kept] for table in self.evidence),
            right=self.right[kept],
            units=self.units[kept],
            softened=None if self.softened is None else self.softened[kept],
        )


@dataclass(frozen=True)
class Point:
    """What a price brings: mean milliseconds, rightness, and number of experts."""

    price: float
    mean_ms: float
    right: float
    mean_k: float


def fit_promises(
    depths: Depths, *, first_most: int | None = None, strengths: Sequence[float] | None = None
) -> Promises:
    """Promises at every depth; without ``first_most`` the first round may ask any number.

    ``strengths`` regularise each depth; without them they are chosen.
    """
    last = len(depths.order)
    strengths = choose_strengths(depths) if strengths is None else strengths
    return Promises(
        order=depths.order,
        costs_ms=depths.costs_ms,
        depths=tuple(
            fit_promise(depths.evidence[depth], depths.aims[:, depth:], strengths[depth])
            for depth in range(last + 1)
        ),
        first_most=last if first_most is None else first_most,
    )


def choose_strengths(depths: Depths) -> list[float]:
    """L2 strength of each depth with the least log loss on sources left out."""
    folds = fold_units(depths.units)
    return [
        _best_strength(_standardise(evidence)[0], depths.aims[:, [depth, -1]], folds)
        for depth, evidence in enumerate(depths.evidence)
    ]


def fit_promise(evidence: Floats, right: Floats, strength: float) -> Promise:
    """Fit the log-odds of ``right`` [n, Q], from 0 to 1, on evidence [n, G]."""
    seen, mean, scale = _standardise(evidence)
    heads = [_fit_logistic(seen, column, strength) for column in right.T]
    return Promise(
        mean=tuple(map(float, mean)),
        scale=tuple(map(float, scale)),
        weights=tuple(tuple(map(float, head[:-1])) for head in heads),
        bias=tuple(float(head[-1]) for head in heads),
    )


def _standardise(evidence: Floats) -> tuple[Floats, Floats, Floats]:
    """Evidence [n, G] less its mean over its deviation, clipped, and both."""
    mean, scale = evidence.mean(axis=0), evidence.std(axis=0)
    scale = np.where(scale > _LEAST_SCALE, scale, 1.0)
    return np.clip((evidence - mean) / scale, -REACH, REACH), mean, scale


def fold_units(units: Ints, num_folds: int = NUM_FOLDS) -> Ints:
    """A fold [n] for each row: whole sources, the largest first, where fewest rows are."""
    names, place, counts = np.unique(units, return_inverse=True, return_counts=True)
    filled = np.zeros(min(num_folds, len(names)))
    chosen = np.zeros(len(names), dtype=np.int64)
    for unit in np.argsort(-counts, kind="stable"):
        chosen[unit] = int(filled.argmin())
        filled[chosen[unit]] += counts[unit]
    return np.asarray(chosen[place])


def cross_fit(depths: Depths) -> list[tuple[Ints, Promises]]:
    """Rows and the promises that were fitted without their sources, fold by fold."""
    folds = fold_units(depths.units)
    if folds.max() == 0:
        return []
    strengths = choose_strengths(depths)
    pairs = []
    for fold in np.unique(folds):
        known = depths.rows(np.flatnonzero(folds != fold))
        pairs.append((np.flatnonzero(folds == fold), fit_promises(known, strengths=strengths)))
    return pairs


def choose_first_most(fitted: Sequence[tuple[Ints, Promises]], depths: Depths) -> int:
    """How many the first round may ask, so that two rounds gain most at equal cost."""
    spent = sum(depths.costs_ms) * np.array(SHOWN_SHARES)

    def worth(most: int) -> float:
        limited = [(rows, known.model_copy(update={"first_most": most})) for rows, known in fitted]
        curve = trace_curve(limited, depths, PRICES)
        return float(np.mean([right_at(curve, ms) for ms in spent]))

    return max(range(1, len(depths.order) + 1), key=worth)


def right_at(curve: Sequence[Point], mean_ms: float) -> float:
    """Rightness of a curve at a mean cost, on the line between its points."""
    points = sorted((point.mean_ms, point.right) for point in curve)
    return float(np.interp(mean_ms, [cost for cost, _ in points], [right for _, right in points]))


def route(promises: Promises, depths: Depths, *, price: float) -> Ints:
    """How many experts each row asks [n] at a price, in two rounds."""
    asked = promises.choose(0, depths.evidence[0], price=price)
    final = asked.copy()
    for depth in np.unique(asked[asked > 0]):
        mine = np.flatnonzero(asked == depth)
        final[mine] = promises.choose(int(depth), depths.evidence[depth][mine], price=price)
    return final


def ask_rows(fitted: Sequence[tuple[Ints, Promises]], depths: Depths, price: float) -> Ints:
    """How many experts each row asks [n] by promises that were not fitted on its source."""
    asked = np.zeros(len(depths.right), dtype=np.int64)
    for rows, promises in fitted:
        asked[rows] = route(promises, depths.rows(rows), price=price)
    return asked


def trace_curve(
    fitted: Sequence[tuple[Ints, Promises]], depths: Depths, prices: Sequence[float]
) -> list[Point]:
    """What each price brings on rows that the promises were not fitted on."""
    return [measure_point(depths, ask_rows(fitted, depths, price), price) for price in prices]


def measure_point(depths: Depths, asked: Ints, price: float) -> Point:
    """Cost and rightness where row i asks ``asked[i]`` experts."""
    costs = np.concatenate([[0.0], np.cumsum(depths.costs_ms)])
    return Point(
        price=float(price),
        mean_ms=float(costs[asked].mean()),
        right=float(depths.right[np.arange(len(asked)), asked].mean()),
        mean_k=float(asked.mean()),
    )


def mix_blindly(costs: Floats, rights: Floats, spent: float) -> Floats:
    """Share [n] of each fixed choice in the mixture of two that scores best at a mean cost."""
    spent = max(spent, float(costs.min()))
    one, within = np.eye(len(costs)), costs <= spent
    lows, highs = np.flatnonzero(within), np.flatnonzero(~within)
    mixtures = [one[low] for low in lows]
    for low, high in product(lows, highs):
        part = (spent - costs[low]) / (costs[high] - costs[low])
        mixtures.append((1.0 - part) * one[low] + part * one[high])
    best: Floats = max(mixtures, key=lambda shares: float(shares @ rights))
    return best


def _best_strength(seen: Floats, right: Floats, folds: Ints) -> float:
    """L2 strength with the least log loss on folds left out."""
    if folds.max() == 0:
        return STRENGTHS[-1]
    losses: Mapping[float, float] = {
        strength: sum(_held_out_loss(seen, column, folds, strength) for column in right.T)
        for strength in STRENGTHS
    }
    return min(losses, key=losses.__getitem__)


def _held_out_loss(seen: Floats, right: Floats, folds: Ints, strength: float) -> float:
    losses = np.zeros(len(right))
    for fold in np.unique(folds):
        known = folds != fold
        head = _fit_logistic(seen[known], right[known], strength)
        losses[~known] = _logistic_losses(head, seen[~known], right[~known])
    return float(losses.sum())


def _fit_logistic(seen: Floats, right: Floats, strength: float) -> Floats:
    """Weights and bias [G + 1] with the least mean loss plus strength times squares / n."""
    count = len(right)

    def loss(head: Floats) -> tuple[float, Floats]:
        wrong = expit(seen @ head[:-1] + head[-1]) - right
        slope = np.append(seen.T @ wrong / count + strength * head[:-1], wrong.mean())
        total = _logistic_losses(head, seen, right).mean()
        return float(total + 0.5 * strength * np.square(head[:-1]).sum()), slope

    share = float(np.clip(right.mean(), 0.5 / count, 1.0 - 0.5 / count))
    start = np.append(np.zeros(seen.shape[1]), np.log(share / (1.0 - share)))
    return np.asarray(minimize(loss, start, jac=True, method="L-BFGS-B").x)


def _logistic_losses(head: Floats, seen: Floats, right: Floats) -> Floats:
    odds = seen @ head[:-1] + head[-1]
    losses: Floats = np.logaddexp(0.0, odds) - right * odds
    return losses
