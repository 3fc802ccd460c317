"""What a run keeps of the clips that it was fitted to, so that experts and clips can be added.

A table in the run lists the clips with the hash of each file and, where a network hears salient
windows alone, their saliency over time. Their features stay in the run's feature cache: those of
the stem and of its experts, of copies at other speeds that heads were fitted on, and of the noisy
copies that promises were fitted on. Gram matrices would be no smaller until there are more clips
than can be kept, and held-out answers could not be made from them.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from xmoe.audio.dataset import Dataset, Example
from xmoe.base.errors import ConfigError, DatasetError, RunFolderError
from xmoe.base.files import TRAIN_AGAIN, storage_errors, write_bytes
from xmoe.training.ears import Spec, pick_kernels
from xmoe.training.kernel_features import ROWS_FILE, Features, FileDigests, feature_file
from xmoe.training.pieces import SPEEDS, CopyName

# Features of more bytes are not kept.
MOST_KEPT = 1 << 30
SHOWN = 3  # file names in a message
_EXAMPLE = tuple(field.name for field in fields(Example))
# Where the features of a copy are, and the saliency that networks heard it by.
_COLUMNS: dict[CopyName, tuple[str, str]] = {
    "whole": ("block", "focus"),
    "noisy": ("noisy_block", "noisy_focus"),
    "fast": ("copied_block", ""),
}


@dataclass(frozen=True)
class Known:
    """Clips that a run was fitted to, and those of them whose noisy copies its promises know."""

    whole: Features
    noisy: Features

    def save(self, path: Path) -> None:
        whole, noisy = self.whole, self.noisy
        homes, copied = _find_homes(noisy), _find_homes(whole.copied)
        noisy_focus = dict(zip(homes, _pack_focus(noisy, "noisy"), strict=True))
        columns = zip(
            whole.examples,
            whole.digests,
            whole.counts,
            whole.homes,
            _pack_focus(whole, "whole"),
            strict=True,
        )
        rows: list[dict[str, Any]] = [
            asdict(example)
            | {"sha256": digest, "segments": int(count), "block": home, "focus": focus}
            | {"noisy_block": homes.get(example.clip_id)}
            | {"noisy_focus": noisy_focus.get(example.clip_id)}
            | {"copied_block": copied.get(example.clip_id)}
            for example, digest, count, home, focus in columns
        ]
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist(rows), sink)
        write_bytes(path, sink.getvalue().to_pybytes())

    def holds(self, specs: Sequence[Spec]) -> bool:
        """Whether the features of all clips for all ``specs`` are there."""
        return all(path.is_file() for path in self.files(specs))

    def files(self, specs: Sequence[Spec]) -> list[Path]:
        parts: list[tuple[Features, CopyName, Sequence[Spec]]] = [
            (self.whole, "whole", specs),
            (self.noisy, "noisy", specs),
        ]
        if self.whole.copied is not None:
            parts += [(self.whole.copied, copy, pick_kernels(specs)) for copy in SPEEDS]
        return [
            feature_file(one.folder / key, spec, copy)
            for one, copy, heard in parts
            for key in one.keys
            for spec in heard
        ]

    def prune(self, specs: Sequence[Spec]) -> int:
        """Remove all features but those of ``specs``, and these too where they are too large.

        Returns the bytes that stay.
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


def read_known(path: Path, cache: Path, segment_s: float) -> Known:
    """Read what ``Known.save`` wrote; features are in ``cache``.

    Raises ConfigError for a run that kept nothing, RunFolderError for a damaged table.
    """
    if not path.is_file():
        raise ConfigError(
            "the run did not record which clips it was trained on",
            where=str(path),
            mend=TRAIN_AGAIN,
        )
    try:
        rows = pq.read_table(path).to_pylist()
        noisy_rows = [row for row in rows if row["noisy_block"]]
        whole = _gather(cache, segment_s, rows, "whole")
        noisy = _gather(cache, segment_s, noisy_rows, "noisy")
        if copied_rows := [row for row in rows if row.get("copied_block")]:
            whole = replace(whole, copied=_gather(cache, segment_s, copied_rows, "fast"))
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        what = f"cannot be read: {error}"
        raise RunFolderError(what, where=str(path), mend=TRAIN_AGAIN) from error
    return Known(whole, noisy)


def _gather(
    cache: Path, segment_s: float, rows: Sequence[dict[str, Any]], copy: CopyName
) -> Features:
    home, focus = _COLUMNS[copy]
    known = [{name: row[name] for name in _EXAMPLE} for row in rows]
    features = Features(
        cache,
        tuple(Example(**one | {"labels": tuple(one["labels"])}) for one in known),
        np.array([row["segments"] for row in rows], np.int64),
        tuple(row[home] for row in rows),
        tuple(row["sha256"] for row in rows),
        (),
        segment_s,
    )
    if not rows or any(row.get(focus) is None for row in rows):
        return features
    table = np.frombuffer(b"".join(row[focus] for row in rows), np.float32)
    return replace(features, focus={copy: table.reshape(int(features.counts.sum()), -1)})


def _find_homes(features: Features | None) -> dict[str, str]:
    """The block of each example, by its id."""
    if features is None:
        return {}
    ids = [example.clip_id for example in features.examples]
    return dict(zip(ids, features.homes, strict=True))


def _pack_focus(features: Features, copy: CopyName) -> list[bytes | None]:
    """Saliency of each example as bytes, None where no expert needs it."""
    if copy not in features.focus:
        return [None] * len(features.examples)
    parts = np.split(features.focus[copy].astype(np.float32), features.counts.cumsum()[:-1])
    return [part.tobytes() for part in parts]


def find_again(features: Features, datasets: Sequence[Dataset]) -> Dataset:
    """Find the clips of ``features`` in ``datasets``: the same bytes by the same name.

    Raises DatasetError where some are in none of them.
    """
    found: dict[str, Path] = {}
    for dataset, digest in zip(datasets, map(FileDigests, datasets), strict=True):
        for example, known in zip(features.examples, features.digests, strict=True):
            if example.clip_id not in found and digest(example) == known:
                found[example.clip_id] = dataset.root
    gone = [example.filepath for example in features.examples if example.clip_id not in found]
    if gone:
        shown = ", ".join(gone[:SHOWN]) + (" ..." if gone[SHOWN:] else "")
        raise DatasetError(
            f"{len(gone)} of the {len(features.examples)} clips that the run was trained on are "
            f"not there, or not with the same bytes: {shown}",
            where=", ".join(str(dataset.root) for dataset in datasets),
            mend="name the folder, or all the folders, that the run was trained and updated on",
        )
    return replace(datasets[0], elsewhere=found)
