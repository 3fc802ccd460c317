"""Blocks of memory are used again, not given back to the system after each step.

The C library hands large blocks back when they are freed and takes them anew for the next step,
page by page, until enough of them have been freed for it to change its mind. Whether it has differs
from process to process, and so would what a glance at a few segments costs.
"""

from __future__ import annotations

import ctypes
import sys
from functools import cache

# Of mallopt(3) in glibc.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
KEPT_BLOCK_BYTES, KEPT_BYTES = 64 << 20, 256 << 20


@cache
def keep_blocks() -> bool:
    """Keep blocks of up to 64 MiB, 256 MiB in all, for the rest of this process.

    Whether it does: other C libraries than glibc decide for themselves.
    """
    if sys.platform != "linux":
        return False
    change = getattr(ctypes.CDLL(None), "mallopt", None)
    if change is None:
        return False
    blocks = change(_MMAP_THRESHOLD, KEPT_BLOCK_BYTES)
    return bool(change(_TRIM_THRESHOLD, KEPT_BYTES) == blocks == 1)
