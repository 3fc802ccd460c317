"""Probabilities in time -> events.

An event of a class is a run of rows of that class with gaps of at most ``max_gap_s``. It starts and
ends where its probability crosses ``keep`` times the threshold, and is reported if it reaches the
threshold itself at least once (hysteresis) and is long enough. Rows may be cells of one recording
or the windows of a request.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

THRESHOLD = 0.5
TOUCH_S = 1e-6  # cells that touch may differ by rounding


class Row(NamedTuple):
    """How probable a class is from ``start_s`` to ``end_s``."""

    start_s: float
    end_s: float
    label: str
    probability: float


class Event(NamedTuple):
    """One event: the mean ``probability`` of its rows, the highest (``peak``), and their number."""

    start_s: float
    end_s: float
    label: str
    probability: float
    peak: float
    rows: int

    @property
    def duration_s(self) -> float:
        return self.end_s - self.start_s


@dataclass(frozen=True)
class MergeRules:
    """When rows form an event.

    ``thresholds`` by class, ``threshold`` for the others; ``keep`` is the share of the threshold at
    which a found event continues; classes in ``background`` are never events.
    """

    thresholds: Mapping[str, float] = field(default_factory=dict)
    threshold: float = THRESHOLD
    keep: float = 1.0
    max_gap_s: float = 0.0
    min_duration_s: float = 0.0
    background: Collection[str] = ()

    def threshold_of(self, label: str) -> float:
        return self.thresholds.get(label, self.threshold)


def list_rows(
    probabilities: npt.NDArray[np.float64],
    cells_s: npt.NDArray[np.float64],
    classes: tuple[str, ...],
    rules: MergeRules,
) -> Iterator[Row]:
    """Yield a row for each cell and class that is probable enough to belong to an event.

    ``probabilities`` are [n, C], ``cells_s`` [n, 2] the bounds of each cell; empty cells have no
    row.
    """
    lowest = np.array([rules.keep * rules.threshold_of(name) for name in classes])
    lowest[[name in rules.background for name in classes]] = np.inf
    some_time = cells_s[:, 1:] > cells_s[:, :1]
    for window, label in np.argwhere((probabilities >= lowest) & some_time):
        start_s, end_s = cells_s[window].tolist()
        yield Row(start_s, end_s, classes[label], float(probabilities[window, label]))


@dataclass
class _Run:
    start_s: float
    end_s: float
    total: float = 0.0
    peak: float = 0.0
    rows: int = 0

    def add(self, row: Row) -> None:
        self.end_s = max(self.end_s, row.end_s)
        self.total += row.probability
        self.peak = max(self.peak, row.probability)
        self.rows += 1


def merge_events(rows: Iterable[Row], rules: MergeRules) -> tuple[Event, ...]:
    """Merge rows, which come in order of time with classes interleaved, into events.

    Rows are read once and not kept: memory grows with the events alone.
    """
    running: dict[str, _Run] = {}
    events: list[Event] = []
    for row in rows:
        if row.label in rules.background:
            continue
        if row.probability < rules.keep * rules.threshold_of(row.label):
            continue
        run = running.get(row.label)
        if run is None or row.start_s - run.end_s > rules.max_gap_s + TOUCH_S:
            if run is not None:
                _close(row.label, run, rules, events)
            run = running[row.label] = _Run(row.start_s, row.end_s)
        run.add(row)
    for label, run in running.items():
        _close(label, run, rules, events)
    return tuple(sorted(events))


def _close(label: str, run: _Run, rules: MergeRules, events: list[Event]) -> None:
    """Keep a run that reached its threshold and is long enough."""
    if run.peak < rules.threshold_of(label):
        return
    if run.end_s - run.start_s < rules.min_duration_s - TOUCH_S:
        return
    mean = run.total / run.rows
    events.append(Event(run.start_s, run.end_s, label, mean, run.peak, run.rows))
