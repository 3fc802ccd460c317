"""Recordings -> features of every candidate expert, computed in one pass and cached.

A recording is decoded once for all candidates and cut into segments as for an answer; features are
of whole segments, and on request of their loudest part, under noise and at other speeds. The cache
knows blocks of recordings by the hash of their files and candidates by the hash of what they see,
so training again, or with one more candidate, computes only what is new. Workers share out whole
blocks, and sums are taken over blocks in their order: the number of workers changes no weight. Only
one block is in memory while it is computed.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from pathlib import Path
from threading import Lock

import numpy as np
import numpy.typing as npt

from xmoe.audio.clip import Clip
from xmoe.audio.dataset import Dataset, Example
from xmoe.audio.quarantine import Quarantined
from xmoe.audio.store import load_clips
from xmoe.base.config import BackboneSpec
from xmoe.base.errors import AudioError
from xmoe.base.files import read_json, to_json, write_bytes, write_json
from xmoe.base.progress import Progress, silent
from xmoe.base.threads import map_ahead
from xmoe.experts.kernels import Floats32
from xmoe.frontend.threads import one_thread
from xmoe.training.ears import Spec, build_ear, pool_windows, seen_by
from xmoe.training.pieces import SPEEDS, CopyName, copy_pieces, cut_training, seed_of

Ints = npt.NDArray[np.int64]

BLOCK_CLIPS = 128  # work for one process; one block is in memory
WORKERS = min(os.cpu_count() or 1, 8)
ROWS_FILE = "rows.json"
# Raise it whenever the same spec would measure other features.
_VERSION = 8
# numpy parses a header as Python, and Python 3.11 counts the depth of that for all threads at once:
# "AST constructor recursion depth mismatch".
_LOADING = Lock()


@dataclass(frozen=True)
class Features:
    """Where the features of recordings are: blocks of ``examples`` in their order.

    Example i has ``counts[i]`` rows, one for each segment of ``segment_s``, in the block
    ``homes[i]``; its file has the SHA-256 sum ``digests[i]``. ``bad`` are unusable recordings,
    which are not among the examples. ``focus`` [rows, columns] is, by copy, the saliency of each
    moment of a row, for specs that hear salient windows alone; NaN where it is not computed yet.
    ``copied`` are those of the examples, in their order, on whose copies at other speeds heads are
    fitted as well; networks are not.
    """

    folder: Path
    examples: tuple[Example, ...]
    counts: Ints
    homes: tuple[str, ...]
    digests: tuple[str, ...]
    bad: tuple[Quarantined, ...]
    segment_s: float = 1.0
    focus: Mapping[CopyName, Floats32] = field(default_factory=dict)
    copied: Features | None = None

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.homes))

    def parts(self) -> list[tuple[str, tuple[Example, ...]]]:
        examples: dict[str, list[Example]] = {key: [] for key in self.keys}
        for example, home in zip(self.examples, self.homes, strict=True):
            examples[home].append(example)
        return [(key, tuple(own)) for key, own in examples.items()]

    def join(self, other: Features) -> Features:
        """Both, the blocks of ``other`` after these; they lie in one folder.

        The saliency of ``other`` is not known yet.
        """
        rows = int(other.counts.sum())
        return Features(
            self.folder,
            self.examples + other.examples,
            np.concatenate([self.counts, other.counts]),
            self.homes + other.homes,
            self.digests + other.digests,
            self.bad + other.bad,
            self.segment_s,
            {
                copy: np.pad(focus, ((0, rows), (0, 0)), constant_values=np.nan)
                for copy, focus in self.focus.items()
            },
            self.copied and other.copied and self.copied.join(other.copied),
        )

    @property
    def owners(self) -> Ints:
        """The example [rows] of each row."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    def rows_of(self, other: Features) -> Ints:
        """Rows, in their order, of the examples that ``other`` has too."""
        ids = {example.clip_id for example in other.examples}
        among = np.array([example.clip_id in ids for example in self.examples])
        return np.flatnonzero(among[self.owners])

    def copied_rows(self) -> Ints:
        """Of which row each row at another speed [m] is a copy, as ``to_fit`` yields them."""
        if self.copied is None:
            return np.empty(0, np.int64)
        return np.tile(self.rows_of(self.copied), len(SPEEDS))

    def to_fit(self, spec: Spec) -> Iterator[Floats32]:
        """Yield features [b, D] block by block, then those of the copies, speed by speed."""
        yield from self.blocks(spec)
        if self.copied is not None:
            for copy in SPEEDS:
                yield from self.copied.blocks(spec, copy)

    def looked(self, *copies: CopyName) -> npt.NDArray[np.bool_]:
        """For which rows [rows] saliency is known in all ``copies``."""
        known = np.ones(int(self.counts.sum()), dtype=bool)
        for copy in copies:
            focus = self.focus.get(copy)
            known &= False if focus is None else ~np.isnan(focus[:, 0])
        return known

    def blocks(self, spec: Spec, copy: CopyName = "whole") -> Iterator[Floats32]:
        """Yield features [b, D] block by block."""
        first = 0
        for key in self.keys:
            path = feature_file(self.folder / key, spec, copy)
            with _LOADING:
                table = np.load(path, allow_pickle=False).astype(np.float32)
            if isinstance(spec, BackboneSpec):
                focus = self.focus.get(copy)
                own = None if focus is None else focus[first : first + len(table)]
                first += len(table)
                table = pool_windows(spec, table, self.segment_s, own)
            yield table

    def table(self, spec: Spec, copy: CopyName = "whole") -> Floats32:
        """Features [rows, D] of all examples."""
        return np.concatenate(list(self.blocks(spec, copy)))


def measure_features(
    source: Source,
    examples: Sequence[Example],
    specs: Sequence[Spec],
    *,
    copies: Sequence[CopyName] = ("whole",),
    progress: Progress = silent,
) -> Features:
    """Compute what the cache does not hold yet, and tell where everything is."""
    digest = FileDigests(source.dataset)
    tasks = []
    for first in range(0, len(examples), BLOCK_CLIPS):
        block = tuple(examples[first : first + BLOCK_CLIPS])
        folder = source.cache / block_key(block, digest, source.segment_s)
        dataset = replace(source.dataset, examples=block)
        tasks.append(BlockTask(dataset, tuple(specs), tuple(copies), source.segment_s, folder))
    run = source.run or run_here
    readable: list[Example] = []
    counts: list[int] = []
    homes: list[str] = []
    bad: list[Quarantined] = []
    for task, rows in zip(tasks, run(tasks, progress), strict=True):
        good = [one for one in zip(task.dataset.examples, rows.counts, strict=True) if one[1]]
        readable += [example for example, _ in good]
        counts += [count for _, count in good]
        homes += [task.folder.name] * len(good)
        bad += rows.bad
    return Features(
        source.cache,
        tuple(readable),
        np.array(counts, np.int64),
        tuple(homes),
        tuple(map(digest, readable)),
        tuple(bad),
        segment_s=source.segment_s,
    )


def extend_features(
    features: Features,
    source: Source,
    specs: Sequence[Spec],
    copy: CopyName,
    *,
    progress: Progress = silent,
) -> None:
    """Compute what the blocks of ``features`` lack."""
    tasks = [
        BlockTask(
            replace(source.dataset, examples=examples),
            tuple(specs),
            (copy,),
            source.segment_s,
            features.folder / key,
        )
        for key, examples in features.parts()
    ]
    if lacking := [task for task in tasks if task.lacking()]:
        (source.run or run_here)(lacking, progress)


@dataclass(frozen=True)
class BlockRows:
    """Rows of each recording of a block, 0 where it is ``bad``."""

    counts: tuple[int, ...]
    bad: tuple[Quarantined, ...]


@dataclass(frozen=True)
class BlockTask:
    """Work for one process: features of the recordings of ``dataset``, written to ``folder``."""

    dataset: Dataset
    specs: tuple[Spec, ...]
    copies: tuple[CopyName, ...]
    segment_s: float
    folder: Path

    def __len__(self) -> int:
        return len(self.dataset.examples)

    def lacking(self) -> list[tuple[Spec, CopyName]]:
        wanted = {
            feature_file(self.folder, spec, copy): (spec, copy)
            for spec in self.specs
            for copy in self.copies
        }
        return [pair for file, pair in wanted.items() if not file.is_file()]


# Blocks -> their rows, in the order of the blocks.
Runner = Callable[[Sequence[BlockTask], Progress], list[BlockRows]]


@dataclass(frozen=True)
class Source:
    """Recordings of ``dataset``, whose features are computed by segment into ``cache``.

    ``run`` computes blocks, here or elsewhere; every process must see the cache and the files.
    """

    dataset: Dataset
    segment_s: float
    cache: Path
    run: Runner | None = None


def run_here(tasks: Sequence[BlockTask], progress: Progress = silent) -> list[BlockRows]:
    """Compute blocks one after the other in this process."""
    total, done = sum(map(len, tasks)), 0
    found = []
    for task in tasks:
        before = done

        def note(count: int, before: int = before) -> None:
            progress("features", before + count, total)

        found.append(measure_block(task, note))
        done += len(task)
        progress("features", done, total)
    return found


def measure_block(task: BlockTask, note: Callable[[int], None] = lambda count: None) -> BlockRows:
    """Compute what the folder of a block lacks; each file appears whole or not at all.

    ``note`` is called with the number of recordings done.
    """
    record, lacking = task.folder / ROWS_FILE, task.lacking()
    if not lacking and record.is_file():
        kept = read_json(record)
        rows = BlockRows(tuple(kept["counts"]), tuple(Quarantined(*row) for row in kept["bad"]))
        if len(rows.counts) == len(task):
            return rows
    tables, rows = _measure_all(task, lacking, note)
    for (spec, copy), table in zip(lacking, tables, strict=True):
        content = io.BytesIO()
        np.save(content, halve_bytes(table), allow_pickle=False)
        write_bytes(feature_file(task.folder, spec, copy), content.getvalue())
    write_json(record, {"counts": rows.counts, "bad": [list(astuple(one)) for one in rows.bad]})
    return rows


def _measure_all(
    task: BlockTask, wanted: Sequence[tuple[Spec, CopyName]], note: Callable[[int], None]
) -> tuple[list[Floats32], BlockRows]:
    """A table [rows, D] for each spec and copy."""
    ears = {spec: build_ear(spec, task.segment_s) for spec, _ in wanted}
    parts: list[list[Floats32]] = [[] for _ in wanted]
    counts: list[int] = []
    bad: list[Quarantined] = []

    def listen(one: tuple[Example, Clip | AudioError]) -> tuple[int, list[Floats32]] | Quarantined:
        example, clip = one
        if isinstance(clip, AudioError):
            return Quarantined.from_error(example.filepath, clip)
        pieces = cut_training(clip, task.segment_s)
        sounds = {
            copy: copy_pieces(pieces, copy, seed_of(example)) for copy in {c for _, c in wanted}
        }
        return len(pieces), [
            np.stack([ears[spec].measure(piece, clip.sample_rate_hz) for piece in sounds[copy]])
            for spec, copy in wanted
        ]

    with one_thread():
        clips = load_clips(task.dataset, task.dataset.examples)
        heard = map_ahead(listen, clips, threads=WORKERS, name="features")
        for done, found in enumerate(heard):
            note(done)
            if isinstance(found, Quarantined):
                bad.append(found)
                counts.append(0)
                continue
            counts.append(found[0])
            for into, rows in zip(parts, found[1], strict=True):
                into.append(rows)
    tables = [
        np.concatenate(rows) if rows else np.empty((0, ears[spec].num_features), np.float32)
        for (spec, _), rows in zip(wanted, parts, strict=True)
    ]
    return tables, BlockRows(tuple(counts), tuple(bad))


def halve_bytes(table: Floats32) -> npt.NDArray[np.floating]:
    """Features as float16, unless some do not fit."""
    with np.errstate(over="ignore"):
        half = table.astype(np.float16)
    return table if np.isinf(half).any() else half


class FileDigests:
    """SHA-256 sums of the files of a data set, each read once; empty where one cannot be read."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self.known: dict[str, str] = {}

    def __call__(self, example: Example) -> str:
        if example.filepath not in self.known:
            try:
                with self.dataset.path(example).open("rb") as handle:
                    digest = hashlib.file_digest(handle, "sha256").hexdigest()
            except OSError:
                digest = ""
            self.known[example.filepath] = digest
        return self.known[example.filepath]


def block_key(block: Sequence[Example], digest: Callable[[Example], str], segment_s: float) -> str:
    """Name of a block: a hash of its recordings' files, names and times, in order."""
    rows = [[digest(one), one.clip_id] for one in block]
    return hashlib.sha256(to_json([segment_s, rows]).encode()).hexdigest()[:24]


def feature_file(folder: Path, spec: Spec, copy: CopyName) -> Path:
    return folder / f"{feature_key(spec)}-{copy}.npy"


def feature_key(spec: Spec) -> str:
    """Name of the features of a spec; equal for specs with the same features."""
    seen = to_json([_VERSION, *seen_by(spec)])
    return hashlib.sha256(seen.encode()).hexdigest()[:24]
