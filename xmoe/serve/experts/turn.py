"""Replicas that start on a node take turns, so that those already serving keep a processor.

An upgrade starts a process per deployment at once, and each imports torch for seconds. At most half
as many as there are processors do so at a time. Nothing heavy is imported here: a replica waits for
its turn before it imports what it needs.
"""

from __future__ import annotations

import getpass
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

LOOK_S = 0.05
# After this a replica starts anyway: one that hangs must not hold up the others.
WITHIN_S = 120.0


def count_slots() -> int:
    """How many replicas may load at once on this node."""
    return max(1, (os.cpu_count() or 1) // 2)


@contextmanager
def turn(
    *, slots: int | None = None, folder: Path | None = None, within_s: float = WITHIN_S
) -> Iterator[bool]:
    """Hold one of the node's slots; yields False where the wait for it was too long."""
    place = folder or Path(tempfile.gettempdir()) / f"xmoe-turns-{getpass.getuser()}"
    place.mkdir(exist_ok=True)
    locks = [FileLock(place / f"{slot}.lock") for slot in range(slots or count_slots())]
    end = time.monotonic() + within_s
    with ExitStack() as held:
        taken = False
        while not taken:
            taken = any(_take(lock, held) for lock in locks)
            if taken or time.monotonic() > end:
                break
            time.sleep(LOOK_S)
        yield taken


def _take(lock: FileLock, held: ExitStack) -> bool:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    held.callback(lock.release)
    return True
