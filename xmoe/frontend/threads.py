"""How many threads torch uses for work on one clip at a time.

Splitting a transform of one second of sound over threads gains nothing when the processor is free
and costs tens of times its length when it is not, because the threads wait for each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread, and as many as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
