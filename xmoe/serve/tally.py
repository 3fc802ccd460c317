"""How the calls to one expert go: how many, how long, what became of them.

What ``GET /v1/experts`` tells of an expert. Latencies are those of the last calls that went well,
so that the figures follow the present and not the whole life of a router.
"""

from __future__ import annotations

from collections import Counter, deque

import numpy as np

RECENT_CALLS = 256


class Tally:
    """The calls of one router replica to one expert."""

    def __init__(self) -> None:
        self.calls = 0
        self.ongoing = 0
        self.failures: Counter[str] = Counter()
        self._recent_ms: deque[float] = deque(maxlen=RECENT_CALLS)

    def begin(self) -> None:
        """Count a call that starts."""
        self.calls += 1
        self.ongoing += 1

    def end(self, outcome: str, seconds: float) -> None:
        """Count its end: ``ok``, ``nonfinite``, or the kind of its failure."""
        self.ongoing -= 1
        if outcome == "ok":
            self._recent_ms.append(1000.0 * seconds)
        else:
            self.failures[outcome] += 1

    @property
    def mean_ms(self) -> float | None:
        """Mean milliseconds of the last calls that went well; None before the first."""
        recent = self._recent_ms
        return round(sum(recent) / len(recent), 3) if recent else None

    @property
    def p95_ms(self) -> float | None:
        """Milliseconds within which 95 % of them answered; None before the first."""
        return self._percentile(95.0)

    def _percentile(self, percent: float) -> float | None:
        recent = self._recent_ms
        return round(float(np.percentile(recent, percent)), 3) if recent else None
