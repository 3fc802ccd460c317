"""Ctrl-C -> an interruption between two steps of foreign code, never inside one.

A ``KeyboardInterrupt`` strikes wherever the main thread happens to be. In code that is not made for
it, as that which holds a lock file, it comes out as another error or leaves a mess.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Interrupt:
    """An interruption that was noted, and strikes where it is asked for."""

    def __init__(self) -> None:
        self.noted = False

    def note(self, signum: int, frame: Any) -> None:
        """Note the first Ctrl-C; raises KeyboardInterrupt at the second."""
        if self.noted:
            raise KeyboardInterrupt
        self.noted = True

    def strike(self) -> None:
        """Raise KeyboardInterrupt if one was noted."""
        if self.noted:
            raise KeyboardInterrupt


@contextmanager
def hold_interrupt() -> Iterator[Interrupt]:
    """Note Ctrl-C instead of raising it, until the end or until ``strike`` is called.

    Only the main thread is asked by the system; elsewhere nothing is ever noted.
    """
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return
    before = signal.signal(signal.SIGINT, interrupt.note)
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGINT, before)
    interrupt.strike()
