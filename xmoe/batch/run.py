"""A classifier and a source of recordings -> a folder of answers, exactly one row each.

Called again with the same arguments it does only the missing shards; finished ones are recognised
by their entries, and checked by their hashes and by size, times and hash of their recordings.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from xmoe.audio.reading import AS_IT_IS, Reading
from xmoe.base.config import Device
from xmoe.base.progress import Progress, silent
from xmoe.batch.inputs import Inputs, list_inputs, place_of
from xmoe.batch.ledger import BatchPlan, Format, Ledger, Receipt, Shard, cut_shards, hash_names
from xmoe.batch.shards import ShardJob, work_here
from xmoe.run.remote import identify_run
from xmoe.storage.place import open_place

SHARD_SIZE = 256

Engine = Callable[[ShardJob, Sequence[Shard]], Generator[Receipt]]


@dataclass(frozen=True)
class BatchRequest:
    """One job: the run, the recordings, where the answers go; paths or addresses."""

    run: str
    source: str
    output: str
    shard_size: int = SHARD_SIZE
    format: Format = "parquet"
    device: Device = "auto"
    reading: Reading = AS_IT_IS


@dataclass(frozen=True)
class BatchSummary:
    """The result of a job; ``rows`` and ``bad`` count all shards, ``shards_done`` those of this
    call.

    ``again`` counts recordings that were answered before and have changed, or are retried;
    ``doubtful`` those whose answer has a warning.
    """

    output: str
    rows: int
    bad: int
    again: int
    doubtful: int
    shards: int
    shards_done: int
    repeated: tuple[str, ...]
    notes: tuple[str, ...]


def infer_batch(
    request: BatchRequest, *, engine: Engine = work_here, progress: Progress = silent
) -> BatchSummary:
    """Answer every recording and write the answers in shards; see ``xmoe.batch.ledger``.

    Raises DatasetError if there are no recordings, RunFolderError if the run is damaged,
    ConfigError if the folder holds something else, StorageError if it cannot be written.
    """
    inputs = list_inputs(request.source)
    job = ShardJob(
        run=_absolute(request.run),
        base=inputs.base,
        output=_absolute(request.output),
        format=request.format,
        device=request.device,
        channel=request.reading.channel,
        time_expansion=request.reading.time_expansion,
    )
    plan = make_plan(request, inputs)
    ledger = Ledger(open_place(job.output))
    done = ledger.begin(plan)
    shards = cut_shards(inputs.names, request.shard_size, inputs.stamps)
    stale, receipts = _sort_out(ledger, shards, done, inputs.base)
    missing = [shard for shard in shards if shard.number not in receipts]
    before = sum(receipt.rows for receipt in receipts.values())
    if missing:
        with closing(engine(job, missing)) as finished:
            for receipt in finished:
                receipts[receipt.shard] = receipt
                before += receipt.rows
                progress("infer", before, len(inputs.names))
    ledger.finish(plan, receipts.values(), inputs.repeated)
    return BatchSummary(
        output=ledger.output.shown,
        rows=sum(receipt.rows for receipt in receipts.values()),
        bad=sum(len(receipt.bad) for receipt in receipts.values()),
        again=stale,
        doubtful=sum(receipt.doubtful for receipt in receipts.values()),
        shards=len(shards),
        shards_done=len(missing),
        repeated=inputs.repeated,
        notes=inputs.notes,
    )


def _sort_out(
    ledger: Ledger, shards: Sequence[Shard], done: Mapping[int, Receipt], base: str
) -> tuple[int, dict[int, Receipt]]:
    """How many recordings are no longer answered, and the entries that are still valid.

    A valid entry with outdated times gets the current ones, so that nothing is hashed twice.
    """
    stale, receipts = 0, {}
    for shard in shards:
        receipt = done.get(shard.number)
        if receipt is None:
            continue
        if count := receipt.count_stale(shard, lambda name: place_of(base, name).sha256()):
            stale += count
            continue
        if receipt.stamps != shard.stamps:
            receipt = receipt.model_copy(update={"stamps": shard.stamps})
            ledger.record(receipt)
        receipts[shard.number] = receipt
    return stale, receipts


def make_plan(request: BatchRequest, inputs: Inputs) -> BatchPlan:
    return BatchPlan(
        base=inputs.base,
        run=identify_run(request.run),
        num_inputs=len(inputs.names),
        names_sha256=hash_names(inputs.names),
        shard_size=request.shard_size,
        format=request.format,
        channel=request.reading.channel,
        time_expansion=request.reading.time_expansion,
    )


def _absolute(address: str) -> str:
    return address if "://" in address else str(Path(address).absolute())
