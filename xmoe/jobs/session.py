"""A Ray to work on: the one that runs already, or a local one for the time of one job."""

from __future__ import annotations

import gc
import logging
import os
import tempfile
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from xmoe.audio.dataset import Dataset
from xmoe.base.backbone import TRUST
from xmoe.base.errors import XmoeError

if TYPE_CHECKING:
    import pyarrow as pa

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
    if not started:
        # The executor of a job that failed lies in a cycle: until it is collected its actors keep
        # their processors, and this job would wait for them.
        gc.collect()
    else:
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


@contextmanager
def ray_errors(what: str, *, where: str | None = None, mend: str) -> Iterator[None]:
    """Turn a failure of Ray itself into an XmoeError: ``what`` failed, and Ray's last line."""
    from ray.exceptions import RayError

    try:
        yield
    except RayError as error:
        last = str(error).strip().splitlines()[-1]
        raise XmoeError(f"{what} failed on Ray: {last}", where=where, mend=mend) from error


def count_resource(name: str) -> int:
    """How many ``CPU`` or ``GPU`` the cluster has."""
    import ray

    resources: dict[str, float] = ray.cluster_resources()
    return int(resources.get(name, 0))


def run_on_actors(
    actor: type,
    settings: dict[str, Any],
    blocks: Sequence[pa.Table],
    *,
    on_gpu: bool,
    most: int | None,
) -> Generator[pa.Table]:
    """Yield what actors make of blocks, in their order, one processor or GPU each.

    ``settings`` are the arguments of each ``actor``. There are ``most`` of them, or as many as
    there are processors or GPUs.
    """
    import ray.data

    gpus = count_resource("GPU") if on_gpu else 0
    size = min(most or gpus or count_resource("CPU"), len(blocks))
    outcomes = ray.data.from_arrow(blocks).map_batches(
        actor,
        fn_constructor_kwargs=settings,
        compute=ray.data.ActorPoolStrategy(size=max(size, 1)),
        batch_size=None,
        batch_format="pyarrow",
        num_cpus=1,
        num_gpus=1 if gpus else 0,
    )
    yield from outcomes.iter_batches(batch_format="pyarrow", batch_size=None)


def node_here() -> str:
    import ray

    return str(ray.get_runtime_context().get_node_id())


def fetch_on_node(dataset: Dataset, home: str) -> Dataset:
    """The set as a worker reads it; on another node than ``home`` it is fetched first."""
    return dataset if node_here() == home else dataset.fetch()
