"""Ray's output while a service starts and stops -> a file; on the screen only progress."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from contextlib import redirect_stderr as send_stderr
from contextlib import redirect_stdout as send_stdout
from typing import TextIO

LOGGERS = ("ray", "ray.serve")
LOOK_EVERY_S = 0.5


@contextmanager
def quietly(
    service: AbstractContextManager[str], log: TextIO, *, name: str, say: Callable[[str], None]
) -> Iterator[str]:
    """Enter and leave a service with all output meanwhile sent to ``log``.

    ``say`` is told whenever more deployments of the application ``name`` are ready. Between start
    and stop output is shown again, but Ray's loggers go on writing to ``log``.
    """
    with ExitStack() as stack:
        with _hushed(log), _watched(name, say):
            address = stack.enter_context(service)
        try:
            yield address
        finally:
            with _hushed(log):
                stack.close()
            _point_loggers_at(sys.stderr)


@contextmanager
def _hushed(log: TextIO) -> Iterator[None]:
    _point_loggers_at(log)
    with send_stdout(log), send_stderr(log):
        yield


def _point_loggers_at(stream: TextIO) -> None:
    for name in LOGGERS:
        for handler in logging.getLogger(name).handlers:
            if type(handler) is logging.StreamHandler:
                handler.stream = stream  # setStream would flush the old one, closed or not


@contextmanager
def _watched(name: str, say: Callable[[str], None]) -> Iterator[None]:
    over = threading.Event()
    watcher = threading.Thread(target=_watch, args=(name, say, over), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def _watch(name: str, say: Callable[[str], None], over: threading.Event) -> None:
    before = -1
    while not over.wait(LOOK_EVERY_S):
        ready, count = count_ready(name)
        if count and ready != before:
            say(f"ready    {ready} of {count} deployments")
            before = ready


def count_ready(name: str) -> tuple[int, int]:
    """How many deployments of an application are ready, and how many it has.

    Looking starts nothing: before there is a Ray, or a Serve on it, both are 0.
    """
    import ray

    if not ray.is_initialized():
        return 0, 0
    from ray import serve

    app = serve.status().applications.get(name)
    deployments = [] if app is None else list(app.deployments.values())
    return sum(one.status == "HEALTHY" for one in deployments), len(deployments)
