"""A folder of recordings, in any accepted layout -> ``Entry`` rows with one meaning.

Accepted without conversion: ``metadata.csv`` with ``filepath,split,label``; Hugging Face
AudioFolder (``file_name`` manifests, also one per split folder; class folders; split folders of
class folders); ESC-50's ``filename,fold,category``; UrbanSound8K's table; the same columns as JSON
Lines or Parquet. A file's folder may have a column of its own.
"""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from xmoe.audio.paths import Finder
from xmoe.audio.tables import TABLE_SUFFIXES, Table, parse_number, parse_time, read_table
from xmoe.base.errors import DatasetError

PATH_COLUMNS = ("filepath", "file_name", "filename", "path", "file", "slice_file_name")
FOLDER_COLUMNS = ("folder", "directory", "dir", "subfolder")
LABEL_COLUMNS = ("label", "labels", "category", "class")
GROUP_COLUMNS = ("group", "src_file", "fsID")
AUDIO_SUFFIXES = frozenset(
    (
        *(".wav", ".wave", ".w64", ".rf64", ".aif", ".aiff", ".aifc", ".au", ".snd"),
        *(".flac", ".ogg", ".oga", ".opus", ".mp3"),
    )
)
SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
_MANIFEST_STEMS = ("metadata", "manifest", "esc50", "meta/esc50", "metadata/UrbanSound8K")


@dataclass(frozen=True)
class Entry:
    """One recording as its layout names it; ``split`` or ``fold`` may be undecided (``None``)."""

    filepath: str
    labels: tuple[str, ...]
    split: str | None
    fold: int | None
    start_s: float
    end_s: float | None
    group: str | None
    row: int


@dataclass(frozen=True)
class Layout:
    """All entries of a data set; ``notes`` say in plain words what was assumed."""

    source: Path
    entries: tuple[Entry, ...]
    notes: tuple[str, ...] = ()


def read_layout(root: Path, metadata: Path | None = None) -> Layout:
    """Recognise the layout of ``root`` and read it.

    ``metadata`` names the manifest, as a path of its own or relative to ``root``.
    """
    if not root.is_dir():
        mend = "name the folder that holds the recordings"
        raise DatasetError("there is no such folder", where=str(root), mend=mend)
    if metadata is not None:
        inside = not metadata.exists() and (root / metadata).exists()
        return _read_manifest(root, root / metadata if inside else metadata)
    for stem in _MANIFEST_STEMS:
        for suffix in TABLE_SUFFIXES:
            manifest = root / f"{stem}{suffix}"
            if manifest.is_file():
                return _read_manifest(root, manifest)
    return _read_split_manifests(root) or _read_folders(root)


def _read_manifest(root: Path, path: Path, *, prefix: str = "", split: str | None = None) -> Layout:
    """Read one manifest; ``prefix`` and ``split`` are those of its split folder, if any."""
    table = read_table(path)
    path_column, label_column = table.need(PATH_COLUMNS), table.need(LABEL_COLUMNS)
    group_column = table.pick(GROUP_COLUMNS)
    known = {name: table.pick((name,)) for name in ("split", "fold", "start_s", "end_s")}
    rows = [
        {**row, **{name: row[column] for name, column in known.items() if column}}
        for row in table.rows
    ]
    notes = list(table.notes)
    files = _find_files(root, table, path_column, prefix, notes)
    entries = tuple(
        Entry(
            filepath=files[index],
            labels=_parse_labels(row[label_column]),
            split=split or _parse_split(row, table, index),
            fold=_parse_fold(row, table, index),
            start_s=_parse_seconds(row, "start_s", table, index) or 0.0,
            end_s=_parse_end(row, table, index),
            group=(row[group_column] or None) if group_column else None,
            row=table.lines[index],
        )
        for index, row in enumerate(rows)
    )
    return Layout(path, entries, tuple(notes))


def _find_files(
    root: Path, table: Table, path_column: str, prefix: str, notes: list[str]
) -> list[str]:
    """Find every row's file; ESC-50's and UrbanSound8K's tables leave folders out."""
    names = [
        _parse_path(row[path_column], table, index, path_column)
        for index, row in enumerate(table.rows)
    ]
    fold, folder = table.pick(("fold",)), table.pick(FOLDER_COLUMNS)
    if path_column == "filename" and fold and (root / "audio").is_dir():
        prefix = "audio/"
        notes.append(f"{table.path.name} is ESC-50's table: its files are taken from audio/")
    folders = [row[folder] if folder else "" for row in table.rows]
    if path_column == "slice_file_name" and fold and (root / "audio").is_dir():
        folders = [f"audio/fold{row[fold]}" for row in table.rows]
        notes.append(f"{table.path.name} is UrbanSound8K's table: fold 1 is taken from audio/fold1")
    found = Finder(root).find_beside([prefix + name for name in names], folders, prefix)
    return [name if "://" in name else path for name, path in zip(names, found, strict=True)]


def _parse_path(cell: str, table: Table, index: int, column: str) -> str:
    if not cell or "\0" in cell:
        what = f"column {column!r} holds no path"
        mend = "write the path relative to the data set's folder"
        raise DatasetError(what, where=table.where(index), mend=mend)
    return cell


def _parse_labels(cell: str) -> tuple[str, ...]:
    """Split ``a;b`` into labels in Unicode form NFC, without repeats."""
    parts = (unicodedata.normalize("NFC", part.strip()) for part in cell.split(";"))
    return tuple(dict.fromkeys(part for part in parts if part))


def _parse_split(row: dict[str, str], table: Table, index: int) -> str | None:
    if "split" not in row:
        return None
    split = SPLIT_NAMES.get(row["split"].lower())
    if split is None:
        what = f"column 'split' holds {row['split']!r}"
        raise DatasetError(what, where=table.where(index), mend="write train, val or test")
    return split


def _parse_fold(row: dict[str, str], table: Table, index: int) -> int | None:
    if "fold" not in row:
        return None
    fold = parse_number(row["fold"])
    if fold is None or not fold.is_integer():
        what = f"column 'fold' holds {row['fold']!r}"
        raise DatasetError(what, where=table.where(index), mend="write a whole number")
    return int(fold)


def _parse_seconds(row: dict[str, str], column: str, table: Table, index: int) -> float | None:
    seconds = parse_time(row.get(column, ""))
    if seconds is not None and not 0.0 <= seconds < float("inf"):
        what = f"column {column!r} holds {row[column]!r}"
        mend = "write seconds, 0 or more, like 1.5, or hours, minutes and seconds like 0:01:02.5"
        raise DatasetError(what, where=table.where(index), mend=mend)
    return seconds


def _parse_end(row: dict[str, str], table: Table, index: int) -> float | None:
    end_s = _parse_seconds(row, "end_s", table, index)
    start_s = _parse_seconds(row, "start_s", table, index) or 0.0
    if end_s is not None and end_s <= start_s:
        what = f"end_s {end_s:g} is not after start_s {start_s:g}"
        mend = "write both in seconds from the start of the file"
        raise DatasetError(what, where=table.where(index), mend=mend)
    return end_s


def _read_split_manifests(root: Path) -> Layout | None:
    """Read AudioFolder's layout with one manifest per split folder, if this is one."""
    found = []
    for split, folder in _split_folders(root):
        for suffix in TABLE_SUFFIXES:
            manifest = folder / f"metadata{suffix}"
            if manifest.is_file():
                prefix = folder.relative_to(root).as_posix() + "/"
                found.append(_read_manifest(root, manifest, prefix=prefix, split=split))
                break
    if not found:
        return None
    entries = tuple(entry for layout in found for entry in layout.entries)
    return Layout(root, entries, tuple(note for layout in found for note in layout.notes))


def _split_folders(root: Path) -> Iterator[tuple[str, Path]]:
    """Yield (split, folder) for the folders named like splits in ``root`` and ``root/data``."""
    for parent in (root, root / "data"):
        folders = sorted(parent.iterdir()) if parent.is_dir() else []
        for folder in folders:
            split = SPLIT_NAMES.get(folder.name.lower())
            if split and folder.is_dir():
                yield split, folder


def _read_folders(root: Path) -> Layout:
    """Read class folders, or split folders of class folders: the folder is the label.

    A class may have subfolders (sites, days): below a folder that holds recordings, everything is
    of the same class.
    """
    places, notes = _places(root)
    left_out: Counter[str] = Counter()
    found = [
        (split, folder, path) for split, folder in places for path in _audio_files(folder, left_out)
    ]
    direct = {path.parent for _, _, path in found}
    classes = {  # for each folder with recordings, the outermost such folder around it
        folder: next(up for up in reversed((folder, *folder.parents)) if up in direct)
        for folder in direct
    }
    entries: list[Entry] = []
    for row, (split, folder, path) in enumerate(found, 1):
        if path.parent == folder:
            mend = "put it into a folder named after its class, or write a metadata.csv"
            raise DatasetError("the file has no class", where=str(path), mend=mend)
        label = unicodedata.normalize("NFC", classes[path.parent].name)
        filepath = path.relative_to(root).as_posix()
        entries.append(Entry(filepath, (label,), split, None, 0.0, None, None, row))
    if not entries:
        mend = "add a metadata.csv, or one folder of recordings per class"
        raise DatasetError("no recordings were found", where=str(root), mend=mend)
    notes.insert(0, f"no manifest: the folder of each of {len(entries)} files is its label")
    inner = {name.relative_to(root).as_posix() for name, top in classes.items() if name != top}
    if inner:
        notes.append(f"subfolders of a class, not classes: {_some(inner)}")
    tops = {folder for _, folder in places}
    deep = {top.relative_to(root).as_posix() for top in classes.values() if top.parent not in tops}
    if deep:
        mend = "where the class is the folder above, write a metadata.csv"
        notes.append(f"nested folders, of which the last is the class: {_some(deep)}; {mend}")
    if left_out:
        endings = ", ".join(f"{name} ({count})" for name, count in sorted(left_out.items()))
        notes.append(f"left out, by ending: {endings}")
    return Layout(root, tuple(entries), tuple(notes))


def _some(names: Iterable[str]) -> str:
    ordered = sorted(names)
    more = f" and {len(ordered) - 4} more" if ordered[4:] else ""
    return ", ".join(ordered[:4]) + more


def _places(root: Path) -> tuple[list[tuple[str | None, Path]], list[str]]:
    """The folders that hold class folders, each with its split, and notes.

    A class may be named like a split ("train", the vehicle): then other classes are beside it.
    """
    splits = list(_split_folders(root))
    if not splits:
        return [(None, root)], []
    named, parents = {folder for _, folder in splits}, {folder.parent for _, folder in splits}
    beside = {
        path.relative_to(root).as_posix(): count
        for path in sorted(path for parent in parents for path in parent.iterdir())
        if path.is_dir() and path.name[0] != "." and not named & {path, *path.glob("*")}
        if (count := sum(1 for _ in _audio_files(path, Counter())))
    }
    if not beside:
        return [*splits], []
    others = ", ".join(f"{name} ({count})" for name, count in beside.items())
    names = ", ".join(sorted(folder.name for folder in named))
    bare = (path.suffix.lower() in AUDIO_SUFFIXES for folder in named for path in folder.iterdir())
    several = len({split for split, _ in splits}) > 1
    if not several and any(bare):
        return [(None, parent) for parent in sorted(parents)], [f"taken for a class: {names}"]
    if several:
        return [*splits], [f"left out, beside the folders of splits: {others}"]
    what = f"{names} is named like a split, but other folders with recordings are beside it"
    mend = "where it is a class, rename it or write a metadata.csv; else move the others away"
    raise DatasetError(f"{what}: {others}", where=str(root), mend=mend)


def _audio_files(folder: Path, left_out: Counter[str]) -> Iterator[Path]:
    """Yield recordings under ``folder`` in a fixed order, skipping hidden files."""

    def refuse(error: OSError) -> None:
        reason = (error.strerror or "cannot be read").lower()
        mend = "check the permissions of the folder"
        raise DatasetError(f"folder: {reason}", where=error.filename, mend=mend)

    for directory, names, files in os.walk(folder, onerror=refuse):
        linked = {name for name in names if (Path(directory) / name).is_symlink()}
        left_out.update({"linked folders": len(linked)} if linked else {})
        names[:] = sorted(name for name in names if name[0] != "." and name not in linked)
        for name in sorted(files):
            suffix = Path(name).suffix.lower()
            if name.startswith("."):
                continue
            if suffix in AUDIO_SUFFIXES:
                yield Path(directory) / name
            else:
                left_out[suffix or "none"] += 1
