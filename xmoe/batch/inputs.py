"""A folder, a pattern, a table or one file, local or in an object store -> names, each once.

A name is a path relative to ``base`` if possible, so that answers read the same wherever the
recordings are; absolute paths and addresses in a table stay as they are. Only names are held, about
100 bytes each, never a recording.
"""

from __future__ import annotations

import posixpath
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from xmoe.audio.layouts import AUDIO_SUFFIXES, FOLDER_COLUMNS, PATH_COLUMNS
from xmoe.audio.paths import Finder
from xmoe.audio.tables import TABLE_SUFFIXES, Table, read_table
from xmoe.base.errors import DatasetError
from xmoe.storage.place import CHECK_ADDRESS, Found, Place, open_place

STAMPERS = 8
_WILD = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class Inputs:
    """Names of recordings below ``base``, sorted, each once.

    ``stamps`` change when a file is rewritten and are empty for a missing file. ``repeated`` are
    names that were given more than once; ``notes`` say what was left out.
    """

    base: str
    names: tuple[str, ...]
    stamps: tuple[str, ...]
    repeated: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def list_inputs(source: str) -> Inputs:
    """The recordings that ``source`` names.

    ``source`` is a folder (all recordings below it), a pattern with ``*``, ``**``, ``?`` or
    ``[...]``, a table with a column ``filepath`` (CSV, TSV, JSON Lines, Parquet; paths relative to
    the table), or one recording. Raises DatasetError if there are none.
    """
    place = open_place(source)
    kind = place.kind()
    if kind == "folder":
        found = _list_folder(place)
    elif kind == "nothing" and _WILD.search(place.key):
        found = _match(place)
    elif kind == "nothing":
        what = "there is no such file or folder"
        raise DatasetError(what, where=source, mend=CHECK_ADDRESS)
    elif _suffix(place.name) in TABLE_SUFFIXES:
        found = _list_table(place)
    else:
        found = Inputs(_parent(place).address, (place.name,), (place.stamp(),))
    if not found.names:
        mend = "name a folder with recordings, a pattern in quotes, or a table of paths"
        raise DatasetError("no recordings were found", where=source, mend=mend)
    _check_names(found.names, source)
    return found


def place_of(base: str, name: str) -> Place:
    if "://" in name or name.startswith("/"):
        return open_place(name)
    return open_place(base) / name


def _list_folder(folder: Place) -> Inputs:
    left_out: Counter[str] = Counter()
    found = []
    for file in folder.walk():
        suffix = _suffix(file.name)
        if suffix in AUDIO_SUFFIXES:
            found.append(file)
        else:
            left_out[suffix or "none"] += 1
    notes: tuple[str, ...] = ()
    if left_out:
        endings = ", ".join(f"{name} ({count})" for name, count in sorted(left_out.items()))
        notes = (f"left out, by ending: {endings}",)
    return _of_files(folder, found, notes)


def _of_files(base: Place, files: Sequence[Found], notes: tuple[str, ...] = ()) -> Inputs:
    names, stamps = tuple(file.name for file in files), tuple(file.stamp for file in files)
    return Inputs(base.address, names, stamps, notes=notes)


def _match(pattern: Place) -> Inputs:
    """List the folder before the first wildcard and keep what the pattern matches."""
    first = _WILD.search(pattern.key)
    assert first is not None
    head = pattern.key[: first.start()].rpartition("/")[0]
    base = Place(pattern.scheme, head or "/", pattern.options)
    wanted = re.compile(_translate(pattern.key[len(head) :].lstrip("/")))
    return _of_files(base, [file for file in base.walk() if wanted.fullmatch(file.name)])


def _translate(pattern: str) -> str:
    """A pattern as a regular expression; only ``**`` crosses folders."""
    pieces = {"**/": "(?:[^/]+/)*", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.split(r"(\*\*/|\*\*|\*|\?|\[!?[^]]+\])", pattern)
    words = []
    for part in parts:
        if part.startswith("[") and part.endswith("]"):
            words.append(part.replace("[!", "[^", 1).replace("\\", "\\\\"))
        else:
            words.append(pieces.get(part, re.escape(part)))
    return "".join(words)


def _list_table(place: Place) -> Inputs:
    base = _parent(place)
    with tempfile.TemporaryDirectory(prefix="xmoe-") as scratch:
        local = place.path if place.is_local else Path(scratch) / place.name
        if not place.is_local:
            local.write_bytes(place.read())
        table = read_table(local)
    column = table.need(PATH_COLUMNS, where=place.shown)
    cells = [row[column] for row in table.rows]
    if "" in cells:
        where = f"{place.shown} line {table.lines[cells.index('')]}"
        raise DatasetError("the row names no file", where=where, mend="write a path")
    counts = Counter(_name_files(cells, table, base))
    repeated = tuple(sorted(name for name, count in counts.items() if count > 1))
    names = tuple(sorted(counts))
    with ThreadPoolExecutor(STAMPERS) as pool:
        stamps = pool.map(lambda name: place_of(base.address, name).stamp(), names)
        return Inputs(base.address, names, tuple(stamps), repeated, table.notes)


def _name_files(cells: Sequence[str], table: Table, base: Place) -> Iterator[str]:
    """Yield one form for each file: ``a.wav`` for ``./a.wav`` and for ``BASE/a.wav``.

    Handles a column of folders beside the names, and paths from other machines.
    """
    addresses = (base.shown.rstrip("/") + "/", base.address.rstrip("/") + "/")
    bare = [cell.removeprefix(addresses[0]).removeprefix(addresses[1]) for cell in cells]
    if not base.is_local:
        yield from (cell if "://" in cell else posixpath.normpath(cell) for cell in bare)
        return
    column = table.pick(FOLDER_COLUMNS)
    folders = [row[column] if column else "" for row in table.rows]
    found = Finder(base.path).find_beside(bare, folders)
    yield from (cell if "://" in cell else path for cell, path in zip(bare, found, strict=True))


def _check_names(names: Iterable[str], source: str) -> None:
    """Raise DatasetError for a name that no table can hold."""
    for name in names:
        try:
            name.encode("utf-8")
        except UnicodeEncodeError as error:
            shown = name.encode("utf-8", "backslashreplace").decode()
            what = f"the name {shown} is not UTF-8"
            raise DatasetError(what, where=source, mend="rename the file") from error


def _suffix(name: str) -> str:
    return posixpath.splitext(name)[1].lower()


def _parent(place: Place) -> Place:
    return Place(place.scheme, place.key.rpartition("/")[0] or "/", place.options)
