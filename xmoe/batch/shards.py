"""A shard -> its file of answers and its entry in the ledger; a worker holds one classifier.

Everything a worker needs travels as text, so the same worker runs here and on another machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Sequence
from dataclasses import dataclass

from xmoe.audio.reading import Reading
from xmoe.base.config import Device
from xmoe.base.device import choose_device
from xmoe.batch.answers import answer_names, rows_to_bytes
from xmoe.batch.ledger import Format, Ledger, Receipt, Shard, part_name
from xmoe.frontend.threads import one_thread
from xmoe.predict.predictor import Predictor
from xmoe.run.remote import fetched_for_predicting
from xmoe.storage.place import open_place


@dataclass(frozen=True)
class ShardJob:
    """What all shards of a job have in common, as text; addresses or absolute paths."""

    run: str
    base: str
    output: str
    format: Format
    device: Device = "cpu"
    channel: int | None = None
    time_expansion: float = 1.0

    @property
    def reading(self) -> Reading:
        return Reading(self.channel, self.time_expansion)


class ShardWorker:
    """Answers shards one after another with one classifier, on one thread."""

    def __init__(self, job: ShardJob) -> None:
        self.job = job
        self.output = open_place(job.output)
        with fetched_for_predicting(job.run) as folder:
            self.predictor = Predictor.load(folder.path, device=choose_device(job.device))

    def __call__(self, shard: Shard) -> Receipt:
        """Answer a shard, write its part and then its entry; StorageError if that fails."""
        with one_thread():
            answers = answer_names(self.predictor, self.job.base, shard.names, self.job.reading)
            rows = list(answers)
        data = rows_to_bytes(rows, self.predictor.config.classes, self.job.format)
        name = part_name(shard.number, self.job.format)
        (self.output / name).write(data)
        bad = tuple(
            (row["file"], row["error"], row["reason"], row["what_to_do"])
            for row in rows
            if row.get("error")
        )
        receipt = Receipt(
            shard=shard.number,
            file=name,
            rows=len(rows),
            size=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            bad=bad,
            stamps=shard.stamps,
            digests=tuple(row["sha256"] for row in rows),
            doubtful=sum(bool(row.get("warnings")) for row in rows),
        )
        Ledger(self.output).record(receipt)
        return receipt


def work_here(job: ShardJob, shards: Sequence[Shard]) -> Generator[Receipt]:
    worker = ShardWorker(job)
    yield from map(worker, shards)
