"""How many threads torch uses for work on one clip at a time.

Splitting a transform of one second of sound over threads gains nothing when the processor is free
and costs tens of times its length when it is not, because the threads wait for each other.
A process that was forked has none of its parent's threads, but torch would wait for them for ever.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

import torch

_TRIALS = 5


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread, and as many as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def time_ms(call: Callable[[], object]) -> float:
    """Return the milliseconds of one processor that a call takes in this thread, best of five."""
    taken = []
    with one_thread(), torch.inference_mode():
        for _ in range(_TRIALS + 1):
            began = time.thread_time()
            call()
            taken.append(time.thread_time() - began)
    return 1000.0 * min(taken[1:])


@cache
def survive_fork() -> None:
    """Let torch use one thread in every process that is forked off this one from now on."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))
