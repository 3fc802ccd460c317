"""A folder of long recordings and their annotation files -> recordings, each with its annotations.

An annotation belongs to the recording that its table names (Raven's ``Begin File``, a column of
paths), else to the one that its file is named after: ``dive.wav`` has ``dive.txt``, ``dive.csv``,
``dive.Table.1.selections.txt``. A recording that no annotation file speaks of is left out, since
nobody said that there is nothing in it; one whose file is empty is heard and holds no event.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from xmoe.audio.annotations import RAVEN_START, TEXTGRID_SUFFIX, Annotation, read_annotations
from xmoe.audio.clip import AudioInfo, read_info
from xmoe.audio.layouts import AUDIO_SUFFIXES
from xmoe.audio.tables import TABLE_SUFFIXES
from xmoe.base.errors import DatasetError

ANNOTATION_SUFFIXES = frozenset((".txt", TEXTGRID_SUFFIX, *TABLE_SUFFIXES))
SLACK_S = 0.05
NAMING = "name it after its recording: dive.wav has dive.txt or dive.selections.txt"


@dataclass(frozen=True)
class Recording:
    """A recording, its ``name`` (path in the folder without suffix) and annotations in order."""

    path: Path
    name: str
    info: AudioInfo
    annotations: tuple[Annotation, ...]


@dataclass(frozen=True)
class AnnotatedFolder:
    """All recordings that were annotated, and in plain words what was left out."""

    root: Path
    recordings: tuple[Recording, ...]
    notes: tuple[str, ...]


def read_annotated(root: Path, *, label_column: str | None = None) -> AnnotatedFolder:
    """Find recordings and annotation files anywhere in a folder and bring them together.

    Raises ``DatasetError`` or ``AudioError`` that names the file, its flaw and the mend.
    """
    if not root.is_dir():
        mend = "name the folder that holds recordings and their annotations"
        raise DatasetError("there is no such folder", where=str(root), mend=mend)
    sounds, tables = _list_files(root)
    if not sounds:
        raise DatasetError("no recordings were found", where=str(root), mend="check the folder")
    found: dict[Path, list[tuple[Path, Annotation]]] = {}
    notes = []
    for table in tables:
        owner = _owner_by_name(table, sounds)
        if owner is None and not _is_annotation(table):
            notes.append(f"left out: {table.relative_to(root)} belongs to no recording")
            continue
        if owner is not None:
            found.setdefault(owner, [])
        for one in read_annotations(table, label_column=label_column):
            found.setdefault(_owner(one, table, owner, sounds), []).append((table, one))
    if not found:
        raise DatasetError("no recording has annotations", where=str(root), mend=NAMING)
    bare = [str(path.relative_to(root)) for path in sounds if path not in found]
    if bare:
        shown = ", ".join(bare[:3]) + (" ..." if bare[3:] else "")
        notes.append(f"left out, without an annotation file: {shown} ({len(bare)})")
    recordings = tuple(_make(root, path, found[path]) for path in sounds if path in found)
    return AnnotatedFolder(root, recordings, tuple(notes))


def _list_files(root: Path) -> tuple[list[Path], list[Path]]:
    """Return recordings and possible annotation files in a fixed order; hidden ones are passed."""
    sounds, tables = [], []
    for path in _walk(root):
        if path.suffix.lower() in AUDIO_SUFFIXES:
            sounds.append(path)
        elif path.suffix.lower() in ANNOTATION_SUFFIXES:
            tables.append(path)
    names = Counter(path.with_suffix("") for path in sounds)
    if twice := [name for name, count in names.items() if count > 1]:
        what = f"several recordings are named {twice[0].name}, whatever their ending"
        raise DatasetError(what, where=str(twice[0].parent), mend="give each its own name")
    return sounds, tables


def _walk(root: Path) -> Iterator[Path]:
    for directory, names, files in os.walk(root):
        names[:] = sorted(name for name in names if name[0] != ".")
        yield from (Path(directory) / name for name in sorted(files) if name[0] != ".")


def _owner_by_name(table: Path, sounds: Sequence[Path]) -> Path | None:
    """Return the recording that an annotation file is named after: the longest name that fits."""
    fits = [path for path in sounds if table.name.startswith(f"{path.stem}.")]
    longest = max((len(path.stem) for path in fits), default=0)
    fits = [path for path in fits if len(path.stem) == longest]
    beside = [path for path in fits if path.parent == table.parent]
    return _only(beside or fits, str(table), table.name) if fits else None


def _owner(one: Annotation, table: Path, owner: Path | None, sounds: Sequence[Path]) -> Path:
    """Return the recording of one annotation: the one that the table names, else ``owner``."""
    where = f"{table}, at {one.start_s:g} s"
    if one.file:
        parts = Path(one.file.replace("\\", "/")).parts
        fits = [path for path in sounds if path.name == parts[-1]]
        exact = [path for path in fits if path.parts[-len(parts) :] == parts]
        if fits:
            return _only(exact or fits, where, one.file)
        mend = "put the recording into the folder, or remove the column that names it"
        raise DatasetError(f"names {one.file}, which is not in the folder", where=where, mend=mend)
    if owner is None:
        raise DatasetError("belongs to no recording", where=str(table), mend=NAMING)
    return owner


def _only(fits: Sequence[Path], where: str, name: str) -> Path:
    if len(fits) > 1:
        what = f"{name} fits several recordings: {fits[0]}, {fits[1]}"
        raise DatasetError(what, where=where, mend="give each recording its own name")
    return fits[0]


def _is_annotation(path: Path) -> bool:
    """Return whether a file whose name fits no recording looks as if it held annotations."""
    try:
        with path.open(encoding="utf-8-sig") as handle:
            first = next((line for line in handle if line.strip()), "")
    except (OSError, UnicodeDecodeError):
        return path.suffix.lower() == ".parquet"
    if RAVEN_START in first or "start_s" in first or path.suffix.lower() == TEXTGRID_SUFFIX:
        return True
    try:
        return len([float(cell) for cell in first.split("\t")[:2]]) == 2
    except ValueError:
        return False


def _make(root: Path, path: Path, found: Sequence[tuple[Path, Annotation]]) -> Recording:
    """Return a recording whose annotations are checked; what stands twice is taken once."""
    info = read_info(path)
    unique: Mapping[tuple[float, float, str], Annotation] = {
        (round(one.start_s, 6), round(one.end_s, 6), one.label): _check(one, table, path, info)
        for table, one in found
    }
    ordered = sorted(unique.values(), key=lambda one: (one.start_s, one.end_s, one.label))
    return Recording(path, path.relative_to(root).with_suffix("").as_posix(), info, tuple(ordered))


def _check(one: Annotation, table: Path, path: Path, info: AudioInfo) -> Annotation:
    where = f"{table}, at {one.start_s:g} s"
    if not one.label:
        mend = "write a label, or delete the selection"
        raise DatasetError("an annotation has no label", where=where, mend=mend)
    if ";" in one.label:
        mend = "give each label an annotation of its own; a semicolon parts labels in metadata.csv"
        raise DatasetError(f"the label {one.label!r} holds a semicolon", where=where, mend=mend)
    if one.end_s > info.duration_s + SLACK_S:
        what = f"ends at {one.end_s:g} s, but {path.name} is {info.duration_s:.3f} s long"
        raise DatasetError(what, where=where, mend="check that the table is of this recording")
    return one._replace(end_s=min(one.end_s, info.duration_s))
