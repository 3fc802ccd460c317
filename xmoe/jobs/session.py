"""A Ray to work on: the one that runs already, or a local one for the time of one job."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def ray_session() -> Iterator[None]:
    """Use the Ray that is connected, or connect to the cluster at hand, or start a local one.

    What was started or connected here is left afterwards. The dashboard is not started, so a local
    Ray listens on loopback alone.
    """
    import ray

    started = not ray.is_initialized()
    if started:
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.WARNING)
    try:
        yield
    finally:
        if started:
            ray.shutdown()


@contextmanager
def data_session() -> Iterator[None]:
    """Use Ray without the progress bars of Ray Data."""
    import ray.data

    with ray_session():
        context = ray.data.DataContext.get_current()
        bars = context.enable_progress_bars
        context.enable_progress_bars = False
        try:
            yield
        finally:
            context.enable_progress_bars = bars
