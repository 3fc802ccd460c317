"""A Ray to work on: the one that runs already, or a local one for the time of one job."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from xmoe.audio.dataset import Dataset
from xmoe.base.backbone import TRUST

# A socket's path may have 107 bytes, and Ray adds about 65 to its temporary folder.
LONGEST_TEMP = 40


def shorten_temp() -> None:
    """Let Ray put its sockets into /tmp where the usual temporary folder has too long a path."""
    if len(os.fsencode(tempfile.gettempdir())) > LONGEST_TEMP:
        os.environ.setdefault("RAY_TMPDIR", "/tmp")  # noqa: S108 (where Ray is by default)


@contextmanager
def ray_session() -> Iterator[None]:
    """Use the Ray that is connected, or connect to the cluster at hand, or start a local one.

    What was started or connected here is left afterwards. The dashboard is not started, so a local
    Ray listens on loopback alone.
    """
    import ray

    started = not ray.is_initialized()
    if started:
        shorten_temp()
        trusted = os.environ.get(TRUST)  # a cluster at hand has an environment of its own
        ray.init(
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.WARNING,
            runtime_env={"env_vars": {TRUST: trusted}} if trusted else None,
        )
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


def node_here() -> str:
    """Return the node of Ray that this process is on."""
    import ray

    return str(ray.get_runtime_context().get_node_id())


def fetch_on_node(dataset: Dataset, home: str) -> Dataset:
    """Return a data set as a worker reads it; on another node than ``home`` it is fetched first."""
    return dataset if node_here() == home else dataset.fetch()
