"""Shards of names -> answers on Ray Data: an actor pool, one classifier and one thread each.

Only names go out and only entries of the ledger come back; recordings and answers are read and
written by the actors, so neither the object store nor the driver ever holds the set. A shard whose
actor dies is done again by another, with the same bytes under the same name.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any, Literal

import pyarrow as pa

from xmoe.base.errors import ConfigError, InputError, RunFolderError, StorageError, XmoeError
from xmoe.base.progress import Progress, silent
from xmoe.batch.ledger import Receipt, Shard
from xmoe.batch.run import BatchRequest, BatchSummary, infer_batch
from xmoe.batch.shards import ShardJob, ShardWorker, work_here
from xmoe.jobs.session import data_session, ray_errors, run_on_actors

LOOP_MAX_NAMES = 2_000
OUTCOME_COLUMNS = ("receipt", "error")
SHARD_SCHEMA = pa.schema(
    [("number", pa.int64()), ("names", pa.list_(pa.string())), ("stamps", pa.list_(pa.string()))]
)


def run_infer(
    request: BatchRequest,
    *,
    engine: Literal["auto", "loop", "ray"] = "auto",
    workers: int | None = None,
    progress: Progress = silent,
) -> BatchSummary:
    """Answer for every recording with the engine asked for, or the one that suits their number.

    ``workers`` is the number of actors on Ray: as many as processors (or GPUs) by default. Up to
    2000 recordings the loop ends before Ray's actors have loaded the classifier.
    """

    def chosen(job: ShardJob, shards: Sequence[Shard]) -> Generator[Receipt]:
        names = sum(len(shard.names) for shard in shards)
        small = engine == "auto" and names <= LOOP_MAX_NAMES
        if engine == "loop" or small:
            return work_here(job, shards)
        return work_on_ray(job, shards, workers=workers)

    return infer_batch(request, engine=chosen, progress=progress)


def work_on_ray(
    job: ShardJob, shards: Sequence[Shard], *, workers: int | None = None
) -> Generator[Receipt]:
    """Yield the entry of each shard as it is done, on the Ray at hand or a local one.

    Every node must see the recordings, the run and the output. Raises the XmoeError that an actor
    met, and XmoeError where Ray itself fails.
    """
    tables = [shard_to_table(shard) for shard in shards]
    settings = {"job": asdict(job)}
    mend = "what is done is kept: run the same command again, or with --engine loop"
    with data_session(), ray_errors("the job", where=job.output, mend=mend):
        on_gpu = job.device != "cpu"
        for table in run_on_actors(ShardActor, settings, tables, on_gpu=on_gpu, most=workers):
            yield from read_outcomes(table)


class ShardActor:
    """What each actor of the pool runs; an error of ours travels as a value, with its mend."""

    def __init__(self, job: dict[str, Any]) -> None:
        import torch

        torch.set_num_threads(1)
        self.make = partial(ShardWorker, ShardJob(**job))
        self.worker: ShardWorker | None = None

    def __call__(self, table: pa.Table) -> pa.Table:
        outcomes = [self._outcome(shard) for shard in table_to_shards(table)]
        columns = zip(*outcomes, strict=True)
        return pa.table([pa.array(column, pa.string()) for column in columns], OUTCOME_COLUMNS)

    def _outcome(self, shard: Shard) -> tuple[str | None, str | None]:
        try:
            self.worker = self.worker or self.make()
            return self.worker(shard).model_dump_json(), None
        except XmoeError as error:
            return None, json.dumps(error.as_dict())


def shard_to_table(shard: Shard) -> pa.Table:
    row = {"number": shard.number, "names": list(shard.names), "stamps": list(shard.stamps)}
    return pa.Table.from_pylist([row], schema=SHARD_SCHEMA)


def table_to_shards(table: pa.Table) -> list[Shard]:
    return [
        Shard(row["number"], tuple(row["names"]), tuple(row["stamps"])) for row in table.to_pylist()
    ]


def read_outcomes(table: pa.Table) -> Generator[Receipt]:
    """Yield the entries that actors sent back; raises the first error of ours among them."""
    for row in table.to_pylist():
        if row["error"] is not None:
            raise rebuild_error(json.loads(row["error"]))
        yield Receipt.model_validate_json(row["receipt"])


def rebuild_error(fields: dict[str, Any]) -> XmoeError:
    """The error whose ``as_dict`` an actor sent."""
    kinds = {
        kind.__name__: kind for kind in (StorageError, RunFolderError, ConfigError, InputError)
    }
    kind = kinds.get(fields["error"], XmoeError)
    return kind(fields["what"], where=fields["where"], mend=fields["mend"])
