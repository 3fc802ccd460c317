"""What a run keeps of the clips that it was fitted to, so that experts and clips can be added.

Which clips those are, with the hash of each file, is a table in the run. Their features stay in its
feature cache: those of the stem and of the experts that were taken, and of the noisy copies that
promises were fitted on. Sums of Gram matrices are no smaller until there are more clips than can be
kept, and no answer to a clip whose source was left out could be made from them.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from xmoe.audio.dataset import Dataset, Example
from xmoe.base.errors import ConfigError, DatasetError, RunFolderError
from xmoe.base.files import TRAIN_AGAIN, storage_errors, write_bytes
from xmoe.training.ears import Spec
from xmoe.training.kernel_features import (
    ROWS_FILE,
    Features,
    FileDigests,
    feature_file,
)
from xmoe.training.pieces import CopyName

# Features of more bytes are not kept.
MOST_KEPT = 1 << 30
SHOWN = 3
_EXAMPLE = tuple(field.name for field in fields(Example))


@dataclass(frozen=True)
class Known:
    """Clips that a run was fitted to, and those of them that its promises know under noise."""

    whole: Features
    noisy: Features

    def save(self, path: Path) -> None:
        """Write which clips they are, and in which blocks their features lie."""
        whole = self.whole
        ids = [example.clip_id for example in self.noisy.examples]
        noisy = dict(zip(ids, self.noisy.homes, strict=True))
        columns = zip(whole.examples, whole.digests, whole.counts, whole.homes, strict=True)
        rows: list[dict[str, Any]] = [
            asdict(example)
            | {"sha256": digest, "segments": int(count), "block": home}
            | {"noisy_block": noisy.get(example.clip_id)}
            for example, digest, count, home in columns
        ]
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist(rows), sink)
        write_bytes(path, sink.getvalue().to_pybytes())

    def holds(self, specs: Sequence[Spec]) -> bool:
        """Whether the features of all clips by all ``specs`` are there."""
        return all(path.is_file() for path in self.files(specs))

    def files(self, specs: Sequence[Spec]) -> list[Path]:
        """Return where the features of ``specs`` are."""
        parts: tuple[tuple[Features, CopyName], ...] = (
            (self.whole, "whole"),
            (self.noisy, "noisy"),
        )
        return [
            feature_file(one.folder / key, spec, copy)
            for one, copy in parts
            for key in one.keys
            for spec in specs
        ]

    def prune(self, specs: Sequence[Spec]) -> int:
        """Remove all features but those of ``specs``, and these too where they are too many.

        Returns how many bytes stay.
        """
        folder, kept = self.whole.folder, set(self.files(specs))
        size = sum(path.stat().st_size for path in kept if path.is_file())
        if size > MOST_KEPT:
            kept, size = set(), 0
        with storage_errors(folder):
            for block in [path for path in folder.iterdir() if path.is_dir()]:
                names = {path.name for path in kept if path.parent == block}
                if not names:
                    shutil.rmtree(block)
                    continue
                for path in block.iterdir():
                    if path.name not in {*names, ROWS_FILE}:
                        path.unlink()
        return size


def read_known(path: Path, cache: Path) -> Known:
    """Return what ``Known.save`` wrote; features are in ``cache``.

    Raises ConfigError for a run that kept nothing, RunFolderError for a torn table.
    """
    if not path.is_file():
        raise ConfigError(
            "the run does not tell which clips it was trained on", where=str(path), mend=TRAIN_AGAIN
        )
    try:
        rows = pq.read_table(path).to_pylist()
        whole = [(*_read(row), row["block"]) for row in rows]
        noisy = [(*_read(row), row["noisy_block"]) for row in rows if row["noisy_block"]]
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        what = f"cannot be read: {error}"
        raise RunFolderError(what, where=str(path), mend=TRAIN_AGAIN) from error
    return Known(_gather(cache, whole), _gather(cache, noisy))


def _read(row: dict[str, Any]) -> tuple[Example, str, int]:
    values = {name: row[name] for name in _EXAMPLE}
    return Example(**values | {"labels": tuple(values["labels"])}), row["sha256"], row["segments"]


def _gather(cache: Path, rows: Sequence[tuple[Example, str, int, str]]) -> Features:
    examples, digests, counts, homes = zip(*rows, strict=True) if rows else ((), (), (), ())
    return Features(cache, examples, np.array(counts, np.int64), homes, digests, ())


def find_again(features: Features, datasets: Sequence[Dataset]) -> Callable[..., Dataset]:
    """Return where the clips of each block of ``features`` are: the same bytes by the same name.

    Raises DatasetError where some are in none of ``datasets``.
    """
    there = [
        {
            example.clip_id
            for example, known in zip(features.examples, features.digests, strict=True)
            if digest(example) == known
        }
        for digest in map(FileDigests, datasets)
    ]

    def find(examples: Sequence[Example]) -> Dataset:
        names = {example.clip_id for example in examples}
        for dataset, own in zip(datasets, there, strict=True):
            if names <= own:
                return dataset
        found = set().union(*there)
        gone = [example.filepath for example in features.examples if example.clip_id not in found]
        shown = ", ".join(gone[:SHOWN]) + (" ..." if gone[SHOWN:] else "")
        raise DatasetError(
            f"{len(gone)} of the {len(features.examples)} clips that the run was trained on are "
            f"not there, or not with the same bytes: {shown}",
            where=", ".join(str(dataset.root) for dataset in datasets),
            mend="name the folder, or all the folders, that the run was trained and updated on",
        )

    for _, examples in features.parts():
        find(examples)
    return find
