"""An expert that keeps failing is left alone for a while, so that nobody waits for it.

Closed: it is asked. After several failures in a row the breaker opens and nobody asks. After a
while one call may try (half-open), and its outcome closes the breaker or opens it again. At most
half of the experts are ever shut out: when most of them fail the fault is probably elsewhere, and
somebody has to be asked to find out that it is over. That rule is why no library does it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Literal

State = Literal["closed", "open", "half-open"]


class Breaker:
    """The breaker of one expert.

    ``clock`` gives monotonic seconds; ``may_open`` is asked before a closed breaker opens.
    """

    def __init__(
        self,
        *,
        failures: int,
        open_s: float,
        clock: Callable[[], float] = time.monotonic,
        may_open: Callable[[], bool] = lambda: True,
    ) -> None:
        self._limit = failures
        self._open_s = open_s
        self._may_open = may_open
        self._clock = clock
        self._failures = 0
        self._opened_at: float | None = None
        self._probe_until = 0.0

    @property
    def state(self) -> State:
        if self._opened_at is None:
            return "closed"
        return "half-open" if self._clock() >= self._opened_at + self._open_s else "open"

    def allows(self) -> bool:
        """Whether the expert may be asked now; half-open lets one caller through at a time."""
        state = self.state
        if state == "half-open" and self._clock() >= self._probe_until:
            self._probe_until = self._clock() + self._open_s
            return True
        return state == "closed"

    def succeed(self) -> None:
        self._failures, self._opened_at, self._probe_until = 0, None, 0.0

    def fail(self) -> None:
        """Note a failure; enough in a row, or one while half-open, open the breaker."""
        self._failures += 1
        if self._opened_at is None and (self._failures < self._limit or not self._may_open()):
            return
        self._opened_at, self._probe_until = self._clock(), 0.0


def make_breakers(
    names: Iterable[str],
    *,
    failures: int,
    open_s: float,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, Breaker]:
    """One breaker per expert; at most half of them are not closed at any time."""
    breakers: dict[str, Breaker] = {}

    def may_open() -> bool:
        shut = sum(breaker.state != "closed" for breaker in breakers.values())
        return 2 * (shut + 1) <= len(breakers)

    for name in names:
        breakers[name] = Breaker(failures=failures, open_s=open_s, clock=clock, may_open=may_open)
    return breakers
