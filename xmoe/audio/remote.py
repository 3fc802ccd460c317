"""A data set in an object store -> the same set in the cache of this machine.

Tables and recordings are fetched before the set is read, so that splits, checks and hashes are
those of the files. A manifest, here or there, may name recordings of other buckets by their
addresses; these are fetched too, and keep their address as their name.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path, PurePosixPath

from xmoe.audio.layouts import AUDIO_SUFFIXES, Entry, Layout, read_layout
from xmoe.audio.tables import TABLE_SUFFIXES
from xmoe.base.progress import Progress, silent
from xmoe.storage.mirror import fetch_files, fetch_folder, is_address, local_path
from xmoe.storage.place import open_place


def locate(root: Path, filepath: str) -> Path:
    """Where a recording of the set at ``root`` is, which may be named by its address."""
    return local_path(filepath) if is_address(filepath) else root / filepath


def fetch_layout(
    root: str | Path, metadata: str | Path | None, *, progress: Progress = silent
) -> tuple[Path, Layout]:
    """Fetch what the layout of a set names; returns the set's local folder and the layout.

    A local set is left as it is. Raises InputError if an address cannot be read.
    """
    source = str(root) if is_address(root) else ""
    here = fetch_folder(source, wanted=_is_of_a_set, progress=progress) if source else Path(root)
    if metadata is not None and is_address(metadata):
        fetch_files([str(metadata)])
        metadata = local_path(str(metadata))
    layout = read_layout(here, None if metadata is None else Path(metadata))
    entries = tuple(_by_own_name(entry, source) for entry in layout.entries)
    names = {entry.filepath for entry in entries}
    lacking = {name for name in names if is_address(name) or not _is_of_a_set(name)}
    fetch_named(source, lacking, progress=progress)
    return here, replace(layout, entries=entries)


def fetch_named(source: str, filepaths: Iterable[str], *, progress: Progress = silent) -> None:
    """Fetch recordings of the set at the address ``source``, which is empty for a local set."""
    addresses = []
    for name in filepaths:
        if is_address(name):
            addresses.append(name)
        elif source:
            addresses.append((open_place(source) / name).address)
    fetch_files(addresses, progress=progress)


def _by_own_name(entry: Entry, source: str) -> Entry:
    """An entry by its name below ``source``, or by its address in canonical form."""
    if not is_address(entry.filepath):
        return entry
    place, name = open_place(entry.filepath), ""
    if source and place.options in ("", (above := open_place(source)).options):
        start, _, below = place.shown.partition(f"{above.shown}/")
        name = "" if start else below
    return replace(entry, filepath=name or place.address)


def _is_of_a_set(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in {*AUDIO_SUFFIXES, *TABLE_SUFFIXES}
