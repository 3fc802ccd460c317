"""One torch thread for many small pieces of work.

The threads of an operation wait for each other: on a busy machine an eigendecomposition of 2,400
rows took 16 s of CPU with two threads and 4 s with one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Let torch use one thread for each operation, and as many as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
