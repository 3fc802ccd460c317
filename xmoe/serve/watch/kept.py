"""A cache for answers that cost a round trip: asked once, kept for a second, shared by all."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

Value = TypeVar("Value")
KEPT_S = 1.0


class Kept(Generic[Value]):
    """The result of ``ask``, renewed once it is older than ``kept_s``."""

    def __init__(
        self,
        ask: Callable[[], Awaitable[Value]],
        *,
        kept_s: float = KEPT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ask, self._kept_s, self._clock = ask, kept_s, clock
        self._found: tuple[float, Value] | None = None
        self._lock = asyncio.Lock()

    async def get(self) -> Value:
        """The result; of many who want it at once the first does the asking."""
        async with self._lock:
            if self._found is None or self._clock() - self._found[0] >= self._kept_s:
                value = await self._ask()
                self._found = (self._clock(), value)
            return self._found[1]
