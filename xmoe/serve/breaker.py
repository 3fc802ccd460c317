"""An expert that keeps failing is left alone for a while, so that nobody waits for it.

Closed, it is asked. After a number of failures in a row it opens: nobody asks it. When its time is
over one request may try (half-open); the outcome closes it or opens it again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

State = Literal["closed", "open", "half-open"]


class Breaker:
    """The breaker of one expert; ``clock`` gives seconds that only rise."""

    def __init__(
        self, *, failures: int, open_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limit = failures
        self._open_s = open_s
        self._clock = clock
        self._failures = 0
        self._opened_at: float | None = None
        self._probe_until = 0.0

    @property
    def state(self) -> State:
        """Closed, open, or half-open once its time is over."""
        if self._opened_at is None:
            return "closed"
        return "half-open" if self._clock() >= self._opened_at + self._open_s else "open"

    def allows(self) -> bool:
        """Whether the expert may be asked now; half-open, one caller is let through at a time."""
        state = self.state
        if state == "half-open" and self._clock() >= self._probe_until:
            self._probe_until = self._clock() + self._open_s
            return True
        return state == "closed"

    def succeed(self) -> None:
        """Note an answer: the breaker closes."""
        self._failures, self._opened_at, self._probe_until = 0, None, 0.0

    def fail(self) -> None:
        """Note a failure; enough of them in a row, or one while half-open, open the breaker."""
        self._failures += 1
        if self._opened_at is not None or self._failures >= self._limit:
            self._opened_at, self._probe_until = self._clock(), 0.0
