"""How many threads torch uses for work on one clip at a time.

Splitting the transform of one second of sound over threads gains nothing on an idle processor and
costs tens of times its duration on a busy one, because the threads wait for each other. A forked
process has none of its parent's threads, but torch would wait for them for ever.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

import torch

# Short calls are timed more often: the cost is that of a call nothing has disturbed.
_TRIALS, _MOST_TRIALS, _ENOUGH_S = 5, 40, 0.1


@contextmanager
def one_thread() -> Iterator[None]:
    """Limit torch to one thread, then restore its number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def time_ms(call: Callable[[], object]) -> float:
    """Milliseconds of CPU time that a call takes on this thread, the best of at least five."""
    taken: list[float] = []
    with one_thread(), torch.inference_mode():
        call()
        while len(taken) < _TRIALS or (len(taken) < _MOST_TRIALS and sum(taken) < _ENOUGH_S):
            began = time.thread_time()
            call()
            taken.append(time.thread_time() - began)
    return 1000.0 * min(taken)


@cache
def survive_fork() -> None:
    """Limit torch to one thread in every process forked from this one from now on."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))
