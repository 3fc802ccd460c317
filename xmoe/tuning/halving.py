"""Running trials -> which of them continue, by accuracy and cost at once.

Asynchronous successive halving: at certain epochs, each twice the one before, a trial is compared
with those that got there earlier, and the worse half is stopped. With two aims a trial is worse if
at least half of the trials lie in better layers of the front, so that a cheap trial is not stopped
for being less accurate than expensive ones. Departs from the paper in that a whole layer continues,
where the paper thins it out.

Source: Li et al. 2020, arXiv:1810.05934; Schmucker et al. 2021, arXiv:2106.12639.
"""

from __future__ import annotations

from collections.abc import Sequence

Point = tuple[float, float]  # accuracy, cost


class Halving:
    """What the trials of one search had reached at the epochs where some are stopped."""

    def __init__(self, epochs: int) -> None:
        self._rungs: dict[int, dict[str, Point]] = {epoch: {} for epoch in rung_epochs(epochs)}

    def goes_on(self, trial: str, epoch: int, point: Point) -> bool:
        """Record what a trial has reached after ``epoch``; false if it is to stop.

        A trial counts once at the highest rung it has reached.
        """
        passed = [rung for rung in self._rungs if rung <= epoch]
        if not passed or trial in self._rungs[max(passed)]:
            return True
        points = self._rungs[max(passed)]
        points[trial] = point
        return 2 * count_better(point, list(points.values())) < len(points)


def rung_epochs(epochs: int) -> list[int]:
    """The epochs at which trials are compared: a third, twice that, ... before the end."""
    rungs, epoch = [], max(1, epochs // 3)
    while epoch < epochs:
        rungs.append(epoch)
        epoch *= 2
    return rungs


def count_better(point: Point, points: Sequence[Point]) -> int:
    """How many of ``points``, which include ``point``, lie in better layers."""
    left = list(points)
    while point in left:
        layer = [one for one in left if not any(beats(other, one) for other in left)]
        if point in layer:
            break
        left = [one for one in left if one not in layer]
    return len(points) - len(left)


def beats(one: Point, other: Point) -> bool:
    """Whether one point is at least as accurate and as cheap as another, and not the same."""
    return one != other and one[0] >= other[0] and one[1] <= other[1]
