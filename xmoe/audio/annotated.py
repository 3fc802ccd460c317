"""A folder of long recordings and their annotation files -> recordings, each with its annotations.

An annotation belongs to the recording that its table names (Raven's ``Begin Path`` or ``Begin
File``, a column of paths; the more folders of the path agree, the better), else to the one its file
is named after: ``dive.wav`` has ``dive.txt``, ``dive.csv``, ``dive.Table.1.selections.txt``. A
recording without an annotation file is left out, because nobody has said that it holds no event;
one whose file is empty is kept, as a recording without events.
"""

from __future__ import annotations

import math
import os
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path, PurePosixPath

from xmoe.audio.annotations import TEXTGRID_SUFFIX, Annotation, has_times, read_annotations
from xmoe.audio.clip import AudioInfo, read_info
from xmoe.audio.layouts import AUDIO_SUFFIXES
from xmoe.audio.tables import TABLE_SUFFIXES, header_of, parse_time, read_table
from xmoe.audio.text import read_text
from xmoe.base.errors import DatasetError

ANNOTATION_SUFFIXES = frozenset((".txt", TEXTGRID_SUFFIX, *TABLE_SUFFIXES))
SLACK_S = 0.05  # programs may round an end past the end of the recording
NAMING = "name it after its recording: dive.wav has dive.txt or dive.selections.txt"


@dataclass(frozen=True)
class Recording:
    """A recording, its ``name`` (path without suffix) and its annotations in order of time."""

    path: Path
    name: str
    info: AudioInfo
    annotations: tuple[Annotation, ...]


@dataclass(frozen=True)
class AnnotatedFolder:
    """Every annotated recording; ``notes`` say in plain words what was left out."""

    root: Path
    recordings: tuple[Recording, ...]
    notes: tuple[str, ...]


def read_annotated(root: Path, *, label_column: str | None = None) -> AnnotatedFolder:
    """Find recordings and annotation files anywhere below a folder and match them.

    Raises ``DatasetError`` or ``AudioError`` with the file, what is wrong and the remedy.
    """
    if not root.is_dir():
        mend = "name the folder that holds recordings and their annotations"
        raise DatasetError("there is no such folder", where=str(root), mend=mend)
    sounds, tables = _list_files(root)
    if not sounds:
        raise DatasetError("no recordings were found", where=str(root), mend="check the folder")
    found: dict[Path, list[tuple[Path, Annotation]]] = {}
    notes = []
    owners = _Owners(sounds)
    for table in tables:
        owner = _owner_by_name(table, sounds)
        if owner is None and not _is_annotation(table):
            notes.append(f"left out: {table.relative_to(root)} belongs to no recording")
            continue
        if owner is not None:
            found.setdefault(owner, [])
        if table.suffix.lower() != ".parquet" and (note := read_text(table).note):
            notes.append(note)
        for one in read_annotations(table, label_column=label_column):
            found.setdefault(owners.find(one, table, owner), []).append((table, one))
    if not found:
        raise DatasetError("no recording has annotations", where=str(root), mend=NAMING)
    bare = [str(path.relative_to(root)) for path in sounds if path not in found]
    if bare:
        shown = ", ".join(bare[:3]) + (" ..." if bare[3:] else "")
        notes.append(f"left out, without an annotation file: {shown} ({len(bare)})")
    recordings = tuple(_make(root, path, found[path]) for path in sounds if path in found)
    return AnnotatedFolder(root, recordings, tuple(notes))


def _list_files(root: Path) -> tuple[list[Path], list[Path]]:
    """Recordings and possible annotation files in a fixed order, hidden ones skipped."""
    sounds, tables = [], []
    for path in _walk(root):
        if path.suffix.lower() in AUDIO_SUFFIXES:
            sounds.append(path)
        elif path.suffix.lower() in ANNOTATION_SUFFIXES:
            tables.append(path)
    names = Counter(path.with_suffix("") for path in sounds)
    if twice := [name for name, count in names.items() if count > 1]:
        what = f"several recordings are named {twice[0].name}, with different suffixes"
        raise DatasetError(what, where=str(twice[0].parent), mend="give each its own name")
    return sounds, tables


def _walk(root: Path) -> Iterator[Path]:
    for directory, names, files in os.walk(root):
        names[:] = sorted(name for name in names if name[0] != ".")
        yield from (Path(directory) / name for name in sorted(files) if name[0] != ".")


def _owner_by_name(table: Path, sounds: Sequence[Path]) -> Path | None:
    """The recording an annotation file is named after: the longest name that fits."""
    name = unicodedata.normalize("NFC", table.name)
    stems = {path: unicodedata.normalize("NFC", path.stem) + "." for path in sounds}
    fits = [path for path, stem in stems.items() if name.startswith(stem)]
    longest = max((len(path.stem) for path in fits), default=0)
    fits = [path for path in fits if len(path.stem) == longest]
    beside = [path for path in fits if path.parent == table.parent]
    return _only(beside or fits, str(table), table.name) if fits else None


class _Owners:
    """Finds the recording that a table names, by how much of its path agrees."""

    def __init__(self, sounds: Sequence[Path]) -> None:
        self._sounds: dict[str, list[Path]] = {}
        for path in sounds:
            self._sounds.setdefault(_parts(path.name)[-1].casefold(), []).append(path)
        self._found: dict[tuple[Path, str], Path] = {}
        self._agreed: dict[tuple[Path, Path], list[tuple[int, int, str]]] = {}

    def find(self, one: Annotation, table: Path, owner: Path | None) -> Path:
        """The recording that the table names for this annotation, else ``owner``."""
        if not one.file:
            if owner is None:
                raise DatasetError("belongs to no recording", where=str(table), mend=NAMING)
            return owner
        if (table, one.file) not in self._found:
            where = f"{table}, at {one.start_s:g} s"
            self._found[table, one.file] = self._look(one.file, table, where)
        return self._found[table, one.file]

    def _look(self, file: str, table: Path, where: str) -> Path:
        parts = _parts(file)
        fits = self._sounds.get(parts[-1].casefold(), []) if parts else []
        mend = "put the recording into the folder, or remove the column that names it"
        if not fits:
            what = f"names {file}, which is not in the folder"
            raise DatasetError(what, where=where, mend=mend)
        agree = [_agree(parts, _parts(path.as_posix())) for path in fits]
        best = [path for path, count in zip(fits, agree, strict=True) if count == max(agree)]
        here = _parts(table.parent.as_posix()) + parts
        beside = [path for path in best if _parts(path.as_posix()) == here]
        path, count = _only(beside or best, where, file), max(agree)[0]
        # If two paths fit one recording, the one that agrees less belongs to a missing recording
        # (site_c/a.wav beside site_a/a.wav), unless all of it agrees (a.wav).
        before = self._agreed.setdefault((table, path), [])
        before.append((count, len(parts), file))
        most = max(before)[0]
        for fewer, of, lesser in before:
            if fewer < most and fewer < of:
                what = f"names {lesser}, which is not in the folder"
                raise DatasetError(what, where=where, mend=mend)
        return path


def _parts(path: str) -> tuple[str, ...]:
    """Folders and name of a path from any operating system, in Unicode form NFC."""
    return PurePosixPath(unicodedata.normalize("NFC", path.replace("\\", "/"))).parts


def _agree(one: Sequence[str], other: Sequence[str]) -> tuple[int, int]:
    """Number of parts that agree, counted from the file name: ignoring case, and exactly."""
    pairs = list(zip(reversed(one), reversed(other), strict=False))
    folded = takewhile(lambda pair: pair[0].casefold() == pair[1].casefold(), pairs)
    return sum(1 for _ in folded), sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _only(fits: Sequence[Path], where: str, name: str) -> Path:
    if len(fits) > 1:
        what = f"{name} fits several recordings: {fits[0]}, {fits[1]}"
        raise DatasetError(what, where=where, mend="give each recording its own name")
    return fits[0]


def _is_annotation(path: Path) -> bool:
    """Whether a file named after no recording looks like a table of annotations."""
    suffix = path.suffix.lower()
    if suffix == TEXTGRID_SUFFIX:
        return True
    try:
        if suffix in TABLE_SUFFIXES and suffix not in (".csv", ".tsv"):
            return has_times(read_table(path, empty_ok=True).columns)
        text = read_text(path).text
    except DatasetError:
        return False
    cells = text.lstrip().partition("\n")[0].split("\t")[:2]
    numbers = [number for cell in cells if (number := parse_time(cell)) is not None]
    return has_times(header_of(text)) or (len(numbers) == 2 and not math.isnan(sum(numbers)))


def _make(root: Path, path: Path, found: Sequence[tuple[Path, Annotation]]) -> Recording:
    """Check the annotations of one recording and drop duplicates."""
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
        mend = (
            "give each label an annotation of its own; a semicolon separates labels in metadata.csv"
        )
        raise DatasetError(f"the label {one.label!r} holds a semicolon", where=where, mend=mend)
    if one.end_s > info.duration_s + SLACK_S:
        what = f"ends at {one.end_s:g} s, but {path.name} is {info.duration_s:.3f} s long"
        raise DatasetError(what, where=where, mend="check that the table is of this recording")
    return one._replace(end_s=min(one.end_s, info.duration_s))
