"""Work on many things by a few threads, in order, a few things ahead.

As ``Executor.map`` with ``buffersize``, which Python has from 3.14 on: things are taken from their
source only when there is room, so a source of any length fits into memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_ahead(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    threads: int,
    ahead: int | None = None,
    name: str,
) -> Generator[Result]:
    """Yield ``work(item)`` for each item, in order; at most ``ahead`` results are held.

    That is one more than there are threads, unless given. The first error is raised in its place,
    and then, or where the caller stops early, nothing more is begun.
    """
    most = threads + 1 if ahead is None else ahead
    waiting: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) >= most:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
