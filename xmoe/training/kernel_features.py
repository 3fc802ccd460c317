"""Recordings -> features of every candidate expert, measured in one pass and kept in a cache.

A recording is decoded once for all candidates and all its copies: heard whole, in its loudest part,
and under noise. The cache knows blocks of recordings by the hash of their files and candidates by
the hash of what they see, so training again, or with one more candidate, measures only what is new.
Blocks are also the unit that workers share and that sums are taken over, in their order: how many
workers there were does not show in any weight. Only one block is in memory while it is measured.
"""

from __future__ import annotations

import hashlib
import io
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from xmoe.audio.clip import Clip
from xmoe.audio.dataset import Dataset, Example
from xmoe.audio.quarantine import Quarantined
from xmoe.audio.store import load_clips
from xmoe.base.errors import AudioError
from xmoe.base.files import read_json, to_json, write_bytes, write_json
from xmoe.base.progress import Progress, silent
from xmoe.experts.kernels import Floats32, KernelsEar, KernelsSpec
from xmoe.frontend.threads import one_thread
from xmoe.policy.copies import loudest_part, noisy_copy

CopyName = Literal["whole", "part", "noisy"]

BLOCK_CLIPS = 256
PART_SHARES = (0.125, 0.5)
WORKERS = 2
# Raise it whenever the same spec would measure other features.
_VERSION = 2


@dataclass(frozen=True)
class Features:
    """Where the features of recordings are: blocks of ``examples`` in their order.

    ``bad`` are recordings that cannot be used; they have no row.
    """

    folder: Path
    examples: tuple[Example, ...]
    keys: tuple[str, ...]
    bad: tuple[Quarantined, ...]

    def blocks(self, spec: KernelsSpec, copy: CopyName = "whole") -> Iterator[Floats32]:
        """Yield features [b, D] block by block, without the rows of bad recordings."""
        for key in self.keys:
            block = np.load(feature_file(self.folder / key, spec, copy), allow_pickle=False)
            yield block[~np.isnan(block[:, 0])]

    def table(self, spec: KernelsSpec, copy: CopyName = "whole") -> Floats32:
        """Return the features [n, D] of all ``examples``."""
        return np.concatenate(list(self.blocks(spec, copy)))


def measure_features(
    dataset: Dataset,
    examples: Sequence[Example],
    specs: Sequence[KernelsSpec],
    *,
    cache: Path,
    copies: Sequence[CopyName] = ("whole",),
    progress: Progress = silent,
) -> Features:
    """Measure what the cache does not hold yet, and return where everything is."""
    digest = FileDigests(dataset)
    blocks = [examples[i : i + BLOCK_CLIPS] for i in range(0, len(examples), BLOCK_CLIPS)]
    keys = [block_key(block, digest) for block in blocks]
    heard: list[Example] = []
    bad: list[Quarantined] = []
    for place, (block, key) in enumerate(zip(blocks, keys, strict=True)):
        missed = measure_block(dataset, block, specs, folder=cache / key, copies=copies)
        heard += [one for index, one in enumerate(block) if index not in missed]
        bad += missed.values()
        progress("features", min((place + 1) * BLOCK_CLIPS, len(examples)), len(examples))
    return Features(cache, tuple(heard), tuple(keys), tuple(bad))


def measure_block(
    dataset: Dataset,
    block: Sequence[Example],
    specs: Sequence[KernelsSpec],
    *,
    folder: Path,
    copies: Sequence[CopyName] = ("whole",),
) -> dict[int, Quarantined]:
    """Measure what ``folder`` lacks of a block; return its recordings that cannot be used, by row.

    The piece of work of one worker: it writes files that appear whole or not at all.
    """
    record = folder / "bad.json"
    wanted = [(spec, copy) for spec in specs for copy in copies]
    lacking = [pair for pair in wanted if not feature_file(folder, *pair).is_file()]
    if not lacking and record.is_file():
        return {int(row): Quarantined(*fields) for row, fields in read_json(record).items()}
    rows, missed = _measure_all(dataset, block, lacking)
    for (spec, copy), table in zip(lacking, rows, strict=True):
        content = io.BytesIO()
        np.save(content, table, allow_pickle=False)
        write_bytes(feature_file(folder, spec, copy), content.getvalue())
    write_json(record, {str(row): list(astuple(fields)) for row, fields in missed.items()})
    return missed


def _measure_all(
    dataset: Dataset, block: Sequence[Example], wanted: Sequence[tuple[KernelsSpec, CopyName]]
) -> tuple[list[Floats32], dict[int, Quarantined]]:
    """Return a table [b, D] for each spec and copy; rows of bad recordings are NaN."""
    ears = {spec: KernelsEar(spec) for spec, _ in wanted}
    tables = [
        np.full((len(block), ears[spec].num_features), np.nan, np.float32) for spec, _ in wanted
    ]
    missed: dict[int, Quarantined] = {}

    def listen(row: int, clip: Clip, seed: int) -> None:
        heard = {copy: copy_clip(clip, copy, seed=seed) for copy in {copy for _, copy in wanted}}
        for table, (spec, copy) in zip(tables, wanted, strict=True):
            table[row] = ears[spec].measure(heard[copy], clip.sample_rate_hz)

    with one_thread(), ThreadPoolExecutor(WORKERS, thread_name_prefix="features") as pool:
        waiting: deque[Future[None]] = deque()
        for row, (example, clip) in enumerate(load_clips(dataset, block)):
            if isinstance(clip, AudioError):
                missed[row] = Quarantined.from_error(example.filepath, clip)
                continue
            waiting.append(pool.submit(listen, row, clip, seed_of(example)))
            while len(waiting) > WORKERS:
                waiting.popleft().result()
        while waiting:
            waiting.popleft().result()
    return tables, missed


def copy_clip(clip: Clip, copy: CopyName, *, seed: int) -> Floats32:
    """Return the samples of a copy: all, the loudest part of a random length, or under noise."""
    if copy == "whole":
        return clip.samples
    rng = np.random.default_rng(seed)
    if copy == "noisy":
        return noisy_copy(clip.samples, rng)
    share = float(np.exp(rng.uniform(*np.log(PART_SHARES))))
    return loudest_part(clip.samples, max(round(share * len(clip.samples)), 1))


class FileDigests:
    """SHA-256 of files of a data set, each read once; a file that cannot be read has none."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self.known: dict[str, str] = {}

    def __call__(self, example: Example) -> str:
        """Return the digest of an example's file."""
        if example.filepath not in self.known:
            try:
                with self.dataset.path(example).open("rb") as handle:
                    digest = hashlib.file_digest(handle, "sha256").hexdigest()
            except OSError:
                digest = ""
            self.known[example.filepath] = digest
        return self.known[example.filepath]


def block_key(block: Sequence[Example], digest: Callable[[Example], str]) -> str:
    """Return the name of a block: a hash of its recordings' files, names and times, in order."""
    rows = [[digest(one), one.clip_id] for one in block]
    return hashlib.sha256(to_json(rows).encode()).hexdigest()[:24]


def feature_file(folder: Path, spec: KernelsSpec, copy: CopyName) -> Path:
    """Return where a block's features are; the same for specs that see the same."""
    seen = [_VERSION, spec.spectro, spec.kernels, spec.seed]
    return folder / f"{hashlib.sha256(to_json(seen).encode()).hexdigest()[:24]}-{copy}.npy"


def seed_of(example: Example) -> int:
    """Return a number that is the same for an example wherever it stands."""
    return int.from_bytes(hashlib.sha256(example.clip_id.encode()).digest()[:8], "little")
