"""Counts of calls to an expert or requests to a router: how many, how long, how they ended.

Latencies cover the last successful calls and rates the last minute, so that figures describe the
present rather than the whole life of a router.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable

import numpy as np
from pydantic import Field

from xmoe.base.config import Frozen

RECENT_CALLS = 256
MINUTE_S = 60


class Calls(Frozen):
    """What a tally has counted; the sum where several routers are added.

    ``per_s`` is the mean rate over the last minute, ``recent_ms`` the milliseconds of the last
    successful calls.
    """

    calls: int = 0
    ongoing: int = 0
    per_s: float = 0.0
    failures: dict[str, int] = Field(default_factory=dict)
    recent_ms: tuple[float, ...] = ()

    def __add__(self, other: Calls) -> Calls:
        return Calls(
            calls=self.calls + other.calls,
            ongoing=self.ongoing + other.ongoing,
            per_s=self.per_s + other.per_s,
            failures=dict(Counter(self.failures) + Counter(other.failures)),
            recent_ms=self.recent_ms + other.recent_ms,
        )

    @property
    def mean_ms(self) -> float | None:
        """Mean of ``recent_ms``; None before the first."""
        return round(float(np.mean(self.recent_ms)), 3) if self.recent_ms else None

    def percentile_ms(self, percent: float) -> float | None:
        """A percentile of ``recent_ms``; None before the first."""
        return round(float(np.percentile(self.recent_ms, percent)), 3) if self.recent_ms else None


class Tally:
    """The calls of one router replica to one expert, or the requests to the router itself."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.calls = 0
        self.ongoing = 0
        self.failures: Counter[str] = Counter()
        self._recent_ms: deque[float] = deque(maxlen=RECENT_CALLS)
        self._clock = clock
        self._born = clock()
        self._by_second: deque[tuple[int, int]] = deque(maxlen=MINUTE_S)

    def begin(self) -> None:
        self.calls += 1
        self.ongoing += 1
        second, before = int(self._clock()), 0
        if self._by_second and self._by_second[-1][0] == second:
            before = self._by_second.pop()[1]
        self._by_second.append((second, before + 1))

    def end(self, outcome: str, seconds: float) -> None:
        """Note the outcome: ``ok``, ``nonfinite``, or the kind of failure."""
        self.ongoing -= 1
        if outcome == "ok":
            self._recent_ms.append(1000.0 * seconds)
        else:
            self.failures[outcome] += 1

    def note(self, outcome: str, seconds: float) -> None:
        """Count a call that is already over."""
        self.begin()
        self.end(outcome, seconds)

    @property
    def count(self) -> Calls:
        now = self._clock()
        last = sum(n for second, n in self._by_second if second > now - MINUTE_S)
        return Calls(
            calls=self.calls,
            ongoing=self.ongoing,
            per_s=last / min(MINUTE_S, max(1.0, now - self._born)),
            failures=dict(self.failures),
            recent_ms=tuple(self._recent_ms),
        )
