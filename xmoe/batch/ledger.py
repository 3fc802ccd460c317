"""What is to be done and what is done: shards, one entry for each that is finished, the end.

    part-00012.parquet    the answers of shard 12
    _plan.json            the recordings, the classifier and the shard size, written at the start
    _done/00012.json      written after the part: its rows, size, SHA-256 and bad recordings
    _manifest.json        all entries and the totals, once everything is done
    _quarantine.csv       the recordings that could not be read, why, and what to do

Each worker writes the entries of its own shards, so nothing is lost with the process that
distributes them. Readers of Parquet folders skip names that begin with ``_``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

from pydantic import ValidationError

from xmoe.audio.quarantine import Quarantined, quarantine_bytes
from xmoe.base.config import Frozen
from xmoe.base.errors import ConfigError
from xmoe.base.files import to_json
from xmoe.storage.place import Place

Format = Literal["parquet", "csv", "jsonl"]

PLAN, MANIFEST, QUARANTINE = "_plan.json", "_manifest.json", "_quarantine.csv"
READERS = 8
_NEW_FOLDER = "name a new folder with --output"


@dataclass(frozen=True)
class Shard:
    """A few recordings that are answered and written together; ``names`` in their order.

    ``stamps`` of the names change with the contents of the files.
    """

    number: int
    names: tuple[str, ...]
    stamps: tuple[str, ...] = ()


class BatchPlan(Frozen):
    """What a folder of answers is made from; a job resumes only if all of it is the same."""

    schema_version: Literal[1] = 1
    base: str
    run: str
    num_inputs: int
    names_sha256: str
    shard_size: int
    format: Format
    channel: int | None = None
    time_expansion: float = 1.0


class Receipt(Frozen):
    """A finished shard: its file, rows, bytes, SHA-256, and ``bad`` (file, code, reason, mend).

    ``stamps`` and ``digests`` (SHA-256) are those of the recordings that were answered;
    ``doubtful`` counts rows with warnings.
    """

    shard: int
    file: str
    rows: int
    size: int
    sha256: str
    bad: tuple[tuple[str, str, str, str], ...] = ()
    stamps: tuple[str, ...] = ()
    digests: tuple[str, ...] = ()
    doubtful: int = 0

    def count_stale(self, shard: Shard, digest: Callable[[str], str]) -> int:
        """How many recordings have changed since, or could not be opened and are retried.

        ``digest`` hashes a recording by name. It is called only if size and times do not decide: a
        set that was copied or touched is not answered again.
        """
        if not len(shard.names) == len(self.stamps) == len(self.digests):
            return len(shard.names)
        tried = {file for file, code, _, _ in self.bad if code == "unreadable"}
        rows = zip(shard.names, self.stamps, shard.stamps, self.digests, strict=True)
        return sum(
            name in tried
            or (before != now and (_size(before) != _size(now) or digest(name) != known))
            for name, before, now, known in rows
        )


def _size(stamp: str) -> str:
    return stamp.partition(" ")[0]


def cut_shards(names: Sequence[str], shard_size: int, stamps: Sequence[str] = ()) -> list[Shard]:
    """The names in shards of ``shard_size``, in order; the last one may be shorter."""
    parts = [slice(first, first + shard_size) for first in range(0, len(names), shard_size)]
    return [Shard(i, tuple(names[part]), tuple(stamps[part])) for i, part in enumerate(parts)]


def hash_names(names: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for name in names:
        digest.update(name.encode() + b"\0")
    return digest.hexdigest()


def part_name(shard: int, kind: Format) -> str:
    return f"part-{shard:05d}.{kind}"


class Ledger:
    """The state of one folder of answers."""

    def __init__(self, output: Place) -> None:
        self.output = output

    def begin(self, plan: BatchPlan) -> dict[int, Receipt]:
        """Write the plan and return what is already done, by shard.

        Raises ConfigError if the folder holds other files, or the answers of another plan.
        """
        if self.output.kind() == "nothing":
            self._note(PLAN, to_json(plan))
            return {}
        sizes = {found.name: found.size for found in self.output.walk()}
        if PLAN in sizes:
            self._compare(plan)
            return self._read_done(sizes)
        if sizes:
            what = f"the folder holds other files ({min(sizes)})"
            raise ConfigError(what, where=self.output.shown, mend=_NEW_FOLDER)
        self._note(PLAN, to_json(plan))
        return {}

    def _compare(self, plan: BatchPlan) -> None:
        try:
            before = BatchPlan.model_validate_json((self.output / PLAN).read())
        except ValidationError as error:
            what = f"is not a plan of answers: {error.errors()[0]['msg']}"
            where = (self.output / PLAN).shown
            raise ConfigError(what, where=where, mend=_NEW_FOLDER) from error
        differ = [name for name, old in before if old != getattr(plan, name)]
        if differ:
            what = f"the folder was started with another {', '.join(differ)}"
            mend = "continue with the same run, recordings and options, or name a new folder"
            raise ConfigError(what, where=self.output.shown, mend=mend)

    def _read_done(self, sizes: Mapping[str, int]) -> dict[int, Receipt]:
        entries = [name for name in sizes if name.startswith("_done/")]
        with ThreadPoolExecutor(READERS) as pool:
            receipts = pool.map(lambda name: self._check_entry(name, sizes), entries)
            return {receipt.shard: receipt for receipt in receipts if receipt is not None}

    def _check_entry(self, name: str, sizes: Mapping[str, int]) -> Receipt | None:
        """An entry whose part is intact, or None."""
        try:
            receipt = Receipt.model_validate_json((self.output / name).read())
        except (ValidationError, FileNotFoundError):
            return None
        if sizes.get(receipt.file) != receipt.size:
            return None
        data = (self.output / receipt.file).read()
        return receipt if hashlib.sha256(data).hexdigest() == receipt.sha256 else None

    def record(self, receipt: Receipt) -> None:
        """Write down that a shard is done; its part is written by then."""
        self._note(f"_done/{receipt.shard:05d}.json", to_json(receipt))

    def finish(self, plan: BatchPlan, receipts: Iterable[Receipt], repeated: Sequence[str]) -> None:
        ordered = sorted(receipts, key=lambda receipt: receipt.shard)
        bad = [Quarantined(*row) for receipt in ordered for row in receipt.bad]
        (self.output / QUARANTINE).write(quarantine_bytes(bad))
        manifest = {
            **plan.model_dump(mode="json"),
            "rows": sum(receipt.rows for receipt in ordered),
            "bad": len(bad),
            "repeated": list(repeated),
            "parts": [r.model_dump(exclude={"bad", "stamps", "digests"}) for r in ordered],
        }
        self._note(MANIFEST, to_json(manifest))
        if self.output.is_local:  # left half written by a killed process
            for torn in self.output.path.glob(".part-*.tmp"):
                torn.unlink(missing_ok=True)

    def _note(self, name: str, text: str) -> None:
        (self.output / name).write(text.encode())
