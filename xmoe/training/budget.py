"""Promises on held-out clips + a budget -> the price of a millisecond, and when to doubt.

A budget is ``accuracy`` (the cheapest price that loses nothing measurable), a share of it such as
``99%``, ``latency`` or a mean number of experts, or a mean cost such as ``20ms``. All prices are
kept with what they bring.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from xmoe.base.config import ASK_ALL, LATENCY_K, Frozen
from xmoe.base.errors import ConfigError
from xmoe.experts.probabilities import log_losses
from xmoe.experts.ridge import Bools, Floats, Ints
from xmoe.policy.race import mean_and_error
from xmoe.training.promise import PRICES
from xmoe.training.promises import Promised
from xmoe.training.stack import MOST_EXPERTS

ALLOWED_LOSS_SE = 0.25  # of the standard error: a loss this small cannot be told from chance
# Of the probability given to the truth: on few clips right or wrong is a coarse measure.
ALLOWED_BELIEF_LOSS = 0.01
# Of the cost of everyone: who saves less might as well ask everyone.
LEAST_SAVED = 0.1
MS, PERCENT = "ms", "%"
# Standard errors by which answers under a threshold must be wrong more often than the others.
DOUBT_SE = 2.0
SHARES = tuple(round(0.02 * step, 2) for step in range(1, 21))  # of answers that may be in doubt


class PricePoint(Frozen):
    """What a price brings on held-out clips: mean cost, number of experts, rightness.

    ``right`` counts noisy copies too, ``right_clean`` does not.
    """

    price: float
    mean_ms: float
    mean_k: float
    right: float
    right_clean: float


class Doubt(Frozen):
    """Answers under ``threshold``: their ``share``, and how often they and the others are wrong."""

    threshold: float
    share: float
    wrong_under: float
    wrong_over: float
    reason: str


@dataclass(frozen=True)
class Priced:
    """The chosen price, its reason, and the whole curve."""

    price: float
    reason: str
    points: tuple[PricePoint, ...]


def parse_budget(budget: str | float, k_max: int) -> tuple[str, float]:
    """What a budget bounds (``accuracy``, ``share``, ``k`` or ``ms``) and by how much.

    Raises ConfigError where it is none.
    """
    if budget == "accuracy":
        return "accuracy", 0.0
    if budget == "latency":
        return "k", LATENCY_K
    text = str(budget).strip().lower()
    try:
        value = float(text.removesuffix(MS).removesuffix(PERCENT))
    except ValueError:
        value = -1.0
    kind = "ms" if text.endswith(MS) else "share" if text.endswith(PERCENT) else "k"
    most = {"k": k_max, "share": 100.0}.get(kind, np.inf)
    if value < 0.0 or not np.isfinite(value) or value > most:
        raise ConfigError(
            f"budget {budget!r} is neither 'accuracy', 'latency', milliseconds such as '20ms', a "
            f"share of the accuracy such as '99%' nor a mean number of experts from 0 to {k_max}",
            where="--budget",
            mend="name one of these",
        )
    return kind, value


def choose_price(
    promised: Promised,
    budget: str | float,
    glance_ms: float,
    temperatures: Sequence[float] | None = None,
) -> Priced:
    """The price for a budget; costs include ``glance_ms``.

    ``temperatures``, by number of experts, turn answers into probabilities; 1 without.
    """
    depths = promised.depths
    kind, aim = parse_budget(budget, max(MOST_EXPERTS, len(depths.order)))
    costs = np.concatenate([[0.0], np.cumsum(depths.costs_ms)])
    prices = (ASK_ALL, *PRICES)
    asked = [promised.asked_at(price) for price in prices]
    rows = np.arange(len(depths.right))
    rights = [depths.right[rows, k] for k in asked]
    points = tuple(
        PricePoint(
            price=price,
            mean_ms=round(glance_ms + float(costs[k].mean()), 4),
            mean_k=round(float(k.mean()), 4),
            right=round(float(right.mean()), 4),
            right_clean=round(float(right[promised.clean].mean()), 4),
        )
        for price, k, right in zip(prices, asked, rights, strict=True)
    )
    if kind == "accuracy":
        scale = temperatures or [1.0] * len(costs)
        beliefs = [believe_truth(promised, k, scale) for k in asked]
        place = _cheapest_good(points, rights, beliefs, depths.units)
        why = (
            "the cheapest price that loses no more than a quarter of a standard error, nor a "
            "hundredth of the probability of the truth; everyone, where that saves less than a "
            "tenth of the cost"
        )
    elif kind == "share":
        least = aim / 100.0 * max(point.right_clean for point in points)
        good = [place for place, point in enumerate(points) if point.right_clean >= least]
        place = min(good, key=lambda place: points[place].mean_ms)
        why = f"the cheapest price that keeps {aim:g} % of the best accuracy on clean clips"
    else:
        name = "mean_ms" if kind == "ms" else "mean_k"
        found = [getattr(point, name) for point in points]
        within = [place for place, value in enumerate(found) if value <= aim]
        # The highest price asks nobody, however odd a clip.
        place = max(within, key=lambda place: found[place]) if aim > min(found) else len(points) - 1
        what = f"{aim:g} ms" if kind == "ms" else f"mean K {aim:g}"
        why = f"the price that spends most within {what}"
        if not within:
            why = f"nobody is asked: the glance alone costs more than {what}"
    point = points[place]
    reason = (
        f"{why}: mean K {point.mean_k:.2f}, {point.mean_ms:.1f} ms, {point.right:.3f} right on "
        f"held-out clips with noisy copies"
    )
    return Priced(point.price, reason, points)


def believe_truth(promised: Promised, asked: Ints, temperatures: Sequence[float]) -> Floats:
    """Probability [n] that each answer gives to the truth."""
    answers = answers_at(promised, asked, temperatures)
    believed: Floats = np.exp(-log_losses(answers, promised.rows, promised.task))
    return believed


def _cheapest_good(
    points: tuple[PricePoint, ...], rights: list[Floats], beliefs: list[Floats], units: Ints
) -> int:
    """Index of the cheapest price that loses neither rightness nor belief in the truth.

    The first price asks everyone, and is taken where the cheapest saves hardly anything.
    """
    best = int(np.argmax([point.right for point in points]))
    surest = max(float(belief.mean()) for belief in beliefs)
    good = [best]
    for place, (right, belief) in enumerate(zip(rights, beliefs, strict=True)):
        lost, error = mean_and_error(rights[best] - right, units)
        within = lost <= ALLOWED_LOSS_SE * max(error, 0.25 / len(right))
        if within and belief.mean() >= surest - ALLOWED_BELIEF_LOSS:
            good.append(place)
    cheapest = min(good, key=lambda place: points[place].mean_ms)
    saves = points[cheapest].mean_ms < (1.0 - LEAST_SAVED) * points[0].mean_ms
    return cheapest if saves or 0 not in good else 0


def choose_doubt(p: Floats, right: Floats, units: Ints) -> Doubt:
    """The threshold under which answers are called uncertain.

    ``p`` [n] is the top probability of each held-out answer, ``right`` [n] how right it is. The
    threshold separates wrong from right best (the share of wrong answers under it less that of
    right ones); it is 0 where those under it are not clearly more often wrong.
    """
    wrong, order = 1.0 - right, np.argsort(p, kind="stable")
    best: tuple[float, float, Bools] | None = None
    for share in SHARES:
        count = max(round(share * len(p)), 1)
        threshold = float(p[order[min(count, len(p) - 1)]])
        under = p < threshold
        if not under.any() or under.all():
            continue
        caught = wrong[under].sum() / max(wrong.sum(), 1e-9)
        spent = right[under].sum() / max(right.sum(), 1e-9)
        if best is None or caught - spent > best[0]:
            best = (caught - spent, threshold, under)
    if best is None:
        return no_doubt("the held-out answers are too few")
    _, threshold, under = best
    low, low_se = mean_and_error(wrong[under], units[under])
    high, high_se = mean_and_error(wrong[~under], units[~under])
    if low - high <= DOUBT_SE * float(np.hypot(low_se, high_se)):
        return no_doubt("answers of low probability were not clearly more often wrong")
    share = float(under.mean())
    return Doubt(
        threshold=round(threshold, 4),
        share=round(share, 4),
        wrong_under=round(low, 4),
        wrong_over=round(high, 4),
        reason=(
            f"of the held-out answers under {threshold:.2f} ({share:.1%} of all) {low:.1%} were "
            f"wrong, of the others {high:.1%}"
        ),
    )


def no_doubt(reason: str) -> Doubt:
    return Doubt(threshold=0.0, share=0.0, wrong_under=0.0, wrong_over=0.0, reason=reason)


def answers_at(promised: Promised, asked: Ints, temperatures: Sequence[float]) -> Floats:
    """Calibrated logits [n, C] where row i asks ``asked[i]`` experts."""
    rows = np.arange(len(asked))
    scale = np.asarray(temperatures)[asked]
    answers: Floats = promised.mixed[asked, rows] / scale[:, None]
    return answers
