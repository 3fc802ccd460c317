"""Finished trials -> those that nothing beats, and the one to take under a budget."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from xmoe.base.config import Frozen
from xmoe.base.errors import ConfigError
from xmoe.tuning.space import TuneCandidate

Cost = Literal["mmac", "latency_ms"]


class TuneResult(Frozen):
    """What one trial measured on validation clips.

    ``accuracy`` is that of ``metrics.json``, ``standard_error`` that of ``standard_error``.
    ``mmac`` is the mean millions of multiply-accumulates of an answer per segment, ``latency_ms``
    the median time of one segment on one thread. ``finished`` is false if the trial was stopped
    early: it is then on no front, and both costs are those of the largest K.
    """

    number: int
    candidate: TuneCandidate
    accuracy: float
    standard_error: float
    mean_k: float
    mmac: float
    latency_ms: float
    epochs: int
    seconds: float
    finished: bool = True

    def cost(self, by: Cost) -> float:
        return self.mmac if by == "mmac" else self.latency_ms


def standard_error(accuracy: float, num_clips: int) -> float:
    """The standard error of an accuracy, positive even if all clips are right.

    Source: Agresti and Coull 1998, two successes and two failures added.
    """
    share = (accuracy * num_clips + 2) / (num_clips + 4)
    return float((share * (1 - share) / (num_clips + 4)) ** 0.5)


def goal(accuracy: float, cost: float, most: float | None) -> float:
    """What the search maximises: accuracy within the budget, below zero beyond it.

    The further a trial is beyond the budget the less it is worth, and any trial within it is worth
    more (Deb 2000, Computer Methods in Applied Mechanics and Engineering 186).
    """
    return accuracy if most is None or cost <= most else 1.0 - cost / most


def find_front(results: Sequence[TuneResult], by: Cost = "mmac") -> list[TuneResult]:
    """The finished trials that no other beats in accuracy and cost, cheapest first."""
    front: list[TuneResult] = []
    finished = [one for one in results if one.finished]
    for one in sorted(finished, key=lambda one: (one.cost(by), -one.accuracy, one.number)):
        if not front or one.accuracy > front[-1].accuracy:
            front.append(one)
    return front


def choose_result(
    results: Sequence[TuneResult], by: Cost = "mmac", *, most: float | None = None
) -> TuneResult:
    """The cheapest trial that ties with the most accurate one within the budget.

    A tie is a difference of at most one standard error of the most accurate trial: validation sets
    are small, and of two that cannot be told apart the cheaper is the better choice (the rule of
    one standard error, Breiman et al. 1984). Raises ConfigError if no trial is within ``most``.
    """
    front = [one for one in find_front(results, by) if most is None or one.cost(by) <= most]
    if not front:
        unit = "MMAC" if by == "mmac" else "ms"
        what = f"no finished trial costs {most:g} {unit} or less" if most else "no trial finished"
        mend = "allow more, or run more trials (--resume --trials N)"
        raise ConfigError(what, where="the search", mend=mend)
    best = front[-1]
    return next(one for one in front if one.accuracy >= best.accuracy - best.standard_error)
