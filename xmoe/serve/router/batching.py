"""Waiting requests -> one block of work at a time, without a timer.

A request that finds the worker idle starts at once, together with whatever else this turn of the
event loop brings. Requests that arrive during a block wait for its end and then go together: the
busier the router, the larger its blocks. By hand, because this room knows no Ray, and
``serve.batch`` refuses nothing where too much waits.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class QueueFull(Exception):
    """Too much is waiting already; the request is refused at once."""


class MicroBatcher(Generic[Item, Result]):
    """Calls ``work`` with waiting items of at most ``max_size`` in all, by ``size_of``.

    What does not ``fit`` into one block waits for the next. ``work`` returns one result per item,
    in order; if it raises, every item of the block gets the exception.
    """

    def __init__(
        self,
        work: Callable[[list[Item]], Awaitable[list[Result]]],
        *,
        size_of: Callable[[Item], int],
        max_size: int,
        max_waiting: int,
        fit: Callable[[Sequence[Item]], bool] = lambda _: True,
    ) -> None:
        self._work = work
        self._size_of = size_of
        self._max_size = max_size
        self._fit = fit
        self._max_waiting = max_waiting
        self._waiting: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._waiting_size = 0
        self._worker: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Total size of the waiting items."""
        return self._waiting_size

    async def submit(self, item: Item) -> Result:
        """The result of one item; raises QueueFull, or whatever ``work`` raises."""
        size = self._size_of(item)
        if self._waiting and self._waiting_size + size > self._max_waiting:
            raise QueueFull
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        self._waiting_size += size
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._run())
        return await future

    async def _run(self) -> None:
        while self._waiting:
            await self._join()
            block = self._take()
            if not block:
                continue
            try:
                results = await self._work([item for item, _ in block])
            except Exception as error:
                for _, future in block:
                    if not future.done():
                        future.set_exception(error)
                continue
            for (_, future), result in zip(block, results, strict=True):
                if not future.done():
                    future.set_result(result)

    async def _join(self) -> None:
        """Yield to the event loop until a turn brings no more items."""
        seen = -1
        while seen != self._waiting_size < self._max_size:
            seen = self._waiting_size
            await asyncio.sleep(0)

    def _take(self) -> list[tuple[Item, asyncio.Future[Result]]]:
        """Remove what fits into one block, at least one item; cancelled items are dropped."""
        block: list[tuple[Item, asyncio.Future[Result]]] = []
        room = self._max_size
        while self._waiting:
            item, future = self._waiting[0]
            size = self._size_of(item)
            if block and (size > room or not self._fit([*(one for one, _ in block), item])):
                break
            self._waiting.popleft()
            self._waiting_size -= size
            if not future.done():
                block.append((item, future))
                room -= size
        return block
