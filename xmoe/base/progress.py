"""How far a long job has come: one call per step, shown as bars or as plain lines.

Work takes ``progress: Progress = silent`` and calls ``progress(stage, done, total, note)``; the
caller chooses what is shown. On a terminal each stage is a bar (rich, imported only then). In a log
a stage prints its start, its end and at most one line every ``pace_s`` seconds. Everything goes to
standard error, so that standard output stays free for results.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TextIO

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID


class Progress(Protocol):
    """A callable that long work reports its progress to."""

    def __call__(self, stage: str, done: int, total: int | None = None, note: str = "") -> None:
        """Report that ``done`` of ``total`` steps of ``stage`` are over; ``note`` is free text."""
        ...


def silent(stage: str, done: int, total: int | None = None, note: str = "") -> None:
    """Show nothing: the default of every function that takes a ``Progress``."""


class PlainProgress:
    """Lines for logs: the first and the last step of a stage, and one line per ``pace_s``."""

    def __init__(
        self,
        stream: TextIO | None = None,
        *,
        pace_s: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream
        self._pace_s = pace_s
        self._clock = clock
        self._stage: str | None = None
        self._next_s = 0.0
        self._started_s = 0.0

    def __call__(self, stage: str, done: int, total: int | None = None, note: str = "") -> None:
        """Print a line if the stage is new, over, or was quiet for ``pace_s``."""
        now = self._clock()
        if stage != self._stage:
            self._stage, self._started_s, self._next_s = stage, now, now
        if now < self._next_s and done != total:
            return
        self._next_s = now + self._pace_s
        counts = f"{done}/{total}" if total is not None else str(done)
        line = f"{stage} {counts} {note}".rstrip()
        print(f"{line} ({now - self._started_s:.1f} s)", file=self._stream or sys.stderr)


class BarProgress:
    """Bars for terminals: one per stage, left on the screen when full."""

    def __init__(self, bars: RichProgress) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, stage: str, done: int, total: int | None = None, note: str = "") -> None:
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(stage, total=total, note=note)
        self._bars.update(self._tasks[stage], completed=done, total=total, note=note)


@contextmanager
def polling(look: Callable[[], None], *, every_s: float) -> Iterator[None]:
    """Call ``look`` again and again in a thread of its own, until the end."""
    over = threading.Event()

    def follow() -> None:
        while not over.wait(every_s):
            look()

    thread = threading.Thread(target=follow, name="polling", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextmanager
def show_progress(stream: TextIO | None = None, *, quiet: bool = False) -> Iterator[Progress]:
    """The ``Progress`` that suits ``stream`` (standard error by default)."""
    target = stream or sys.stderr
    if quiet:
        yield silent
    elif not target.isatty():
        yield PlainProgress(target)
    else:
        from rich.console import Console

        with _bars(Console(file=target)) as bars:
            yield BarProgress(bars)


def _bars(console: Console) -> RichProgress:
    from rich import progress

    return progress.Progress(
        progress.TextColumn("{task.description:>12}"),
        progress.BarColumn(bar_width=24),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
        progress.TimeRemainingColumn(),
        progress.TextColumn("{task.fields[note]}"),
        console=console,
    )
