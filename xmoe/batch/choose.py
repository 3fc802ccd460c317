"""Doubts and features of many recordings -> the few most worth a label.

The most doubtful recordings are often outliers, or the same sound again and again; the most
different ones are always outliers. So among the most doubtful the most typical are chosen: each
adds how much closer the doubtful recordings come to a labelled one, weighted by their doubt.

Source: Wei, Iyer and Bilmes 2015, ICML (filtered active submodular selection: a shortlist by
uncertainty, then facility location).
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Item = TypeVar("Item")

SHORTLIST = 4
_LEAST_SCALE = 1e-6


def choose(features: Floats, doubt: Floats, count: int) -> tuple[Ints, Ints]:
    """Which ``count`` of m recordings to label, best first, and which one stands for each.

    ``features`` [m, D] are scaled, ``doubt`` [m] is not negative. The second result [m] is the
    place among those chosen of the one nearest to each recording.
    """
    square = (features**2).sum(1)
    distance = np.maximum(square[:, None] + square - 2 * features @ features.T, 0.0)
    middle = np.median(distance[distance > 0]) if (distance > 0).any() else 1.0
    likeness = np.exp(-distance / middle)
    closest = np.zeros(len(features))
    free = np.ones(len(features), dtype=bool)
    chosen = []
    for _ in range(min(count, len(features))):
        gain = np.maximum(likeness - closest, 0.0) @ doubt
        best = int(np.flatnonzero(free)[np.argmax(gain[free])])
        chosen.append(best)
        free[best] = False
        closest = np.maximum(closest, likeness[best])
    picked = np.array(chosen, dtype=np.int64)
    return picked, likeness[:, picked].argmax(1).astype(np.int64)


@dataclass(frozen=True)
class Candidate(Generic[Item]):
    """One recording: an ``item`` of any kind, its doubt and features [D]."""

    item: Item
    doubt: float
    features: Floats


class Shortlist(Generic[Item]):
    """The most doubtful of a stream of recordings; only these are held.

    Features are scaled by the mean and spread of the whole stream.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.count = 0
        self._heap: list[tuple[float, int, Candidate[Item]]] = []
        self._sum: Floats | float = 0.0
        self._squares: Floats | float = 0.0

    def add(self, candidate: Candidate[Item]) -> None:
        """Add a recording; of equal doubt the earlier one stays."""
        entry = (candidate.doubt, -self.count, candidate)
        self.count += 1
        self._sum = self._sum + candidate.features
        self._squares = self._squares + candidate.features**2
        push = heapq.heappush if len(self._heap) < self.size else heapq.heappushpop
        push(self._heap, entry)

    def __iter__(self) -> Iterator[Candidate[Item]]:
        """Yield those held, the most doubtful first."""
        return (entry[2] for entry in sorted(self._heap, reverse=True))

    def scaled(self) -> Floats:
        """Features [m, D] of those held, in their order."""
        mean = self._sum / self.count
        spread = np.sqrt(np.maximum(self._squares / self.count - mean**2, 0.0))
        scale = np.where(spread > _LEAST_SCALE, spread, 1.0) * np.sqrt(np.size(mean))
        rows = np.stack([candidate.features for candidate in self])
        return np.asarray((rows - mean) / scale)
