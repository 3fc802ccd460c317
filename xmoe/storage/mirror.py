"""Files of an object store -> the same files in a folder of this machine, fetched once.

Everything that decodes recordings or loads weights reads paths; this module is in between. A cached
file is up to date if its size and time (in seconds) are those of the store, the rule of rsync, so
the folder itself is the record of what is there: an interrupted reader continues with the missing
files, and an object that was rewritten is fetched again. A file is fetched next to its place,
counted, given its time and renamed, so a file under its final name is complete.

    $XMOE_CACHE/s3:/BUCKET/KEY                 what was fetched
    $XMOE_CACHE/s3?OPTIONS:/BUCKET/KEY         the same from an address with options
    $XMOE_CACHE/unpublished/s3:/BUCKET/KEY     what is to be written there (``xmoe.run.publish``)
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from xmoe.base.errors import InputError
from xmoe.base.files import storage_errors
from xmoe.base.progress import Progress, silent
from xmoe.base.threads import map_ahead
from xmoe.storage.place import Place, open_place

CACHE = "XMOE_CACHE"
UNPUBLISHED = "unpublished"
WORKERS = 16
TORN_S = 86_400.0
SECOND_NS = 10**9


def cache_folder() -> Path:
    """The folder of fetched files: ``XMOE_CACHE``, or one in the user's cache."""
    users = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get(CACHE) or Path(users) / "xmoe").absolute()


def is_address(path: str | os.PathLike[str]) -> bool:
    """Whether a path means an object store."""
    scheme, mark, _ = os.fspath(path).partition("://")
    return bool(mark) and scheme != "file"


def local_path(address: str) -> Path:
    """Where the files of an address are on this machine, fetched or not.

    Raises InputError for an invalid address, or one that would lead out of the cache.
    """
    place = open_place(address)
    return place.path if place.is_local else cached(place)


def cached(place: Place, under: str = "") -> Path:
    """The path of a place of a store in the cache, in its folder ``under``.

    Raises InputError where the path would lead out of it.
    """
    if ".." in PurePosixPath(place.key).parts:
        mend = "write the key without .."
        raise InputError("the address leads upwards", where=place.shown, mend=mend)
    options = f"?{quote(place.options, safe='')}" if place.options else ""
    return cache_folder() / under / f"{place.scheme}{options}:" / place.key


def name_address(path: str) -> str:
    """The address of a path in the cache, any other path unchanged: for messages."""
    try:
        inside = PurePosixPath(path).relative_to(cache_folder().as_posix()).as_posix()
    except ValueError:
        return path
    above, mark, rest = inside.partition(":/")
    scheme = above.rpartition("/")[2].partition("?")[0]
    return f"{scheme}://{rest}" if mark else path


def fetch_folder(
    address: str,
    *,
    to: Path | None = None,
    wanted: Callable[[str], bool] = lambda name: True,
    progress: Progress = silent,
) -> Path:
    """Fetch the files below an address that are ``wanted`` by name; returns their folder.

    Files that no longer exist below the address are removed from the cache. Another folder ``to``
    only gains: its own files stay, and so do newer ones. Raises InputError if the address cannot be
    read or a file arrives incomplete, StorageError if there is no room.
    """
    place, folder = open_place(address), to or local_path(address)
    if place.is_local:
        return place.path
    found = list(place.walk())
    for one in found:
        if ".." in PurePosixPath(one.name).parts or "//" in f"/{one.name}":
            what = f"holds a name that leads elsewhere: {one.name}"
            raise InputError(what, where=place.shown, mend="rename the object")
    jobs = [(place / one.name, folder / one.name, one.stamp) for one in found if wanted(one.name)]
    if to is not None:
        jobs = [job for job in jobs if _time_s(job[1]) < size_and_time(job[2])[1]]
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    _fetch_all(jobs, progress)
    if to is None:
        _remove_gone(folder, {one.name for one in found})
    return folder


def fetch_files(addresses: Iterable[str], *, progress: Progress = silent) -> None:
    """Fetch single files, each to its ``local_path``; missing ones are removed there."""
    places = {address: open_place(address) for address in dict.fromkeys(addresses)}
    jobs = [(place, local_path(address), None) for address, place in places.items()]
    _fetch_all(jobs, progress)


def _fetch_all(jobs: Sequence[tuple[Place, Path, str | None]], progress: Progress) -> None:
    """Fetch what is missing; a job is an object, its path, and its stamp if known."""
    fetched = size = 0
    counts = map_ahead(lambda job: _fetch(*job), jobs, threads=WORKERS, name="storage")
    for done, count in enumerate(counts, 1):
        fetched, size = fetched + (count is not None), size + (count or 0)
        progress("fetch", done, len(jobs), f"{fetched} new, {size / 1e6:.1f} MB")


def _fetch(place: Place, target: Path, stamp: str | None) -> int | None:
    """Bring ``target`` up to date; returns the bytes fetched, None if there were none to fetch."""
    stamp = place.stamp() if stamp is None else stamp
    if not stamp:
        target.unlink(missing_ok=True)
        return None
    size, time_s = size_and_time(stamp)
    if target.is_file() and (target.stat().st_size, _time_s(target)) == (size, time_s):
        return None
    try:
        _download(place, target, size, time_s)
    except FileNotFoundError:  # removed since it was listed
        target.unlink(missing_ok=True)
        return None
    return size


def _download(place: Place, target: Path, size: int, time_s: int) -> None:
    temporary, came = target.with_name(f".{uuid.uuid4().hex}.tmp"), 0
    with storage_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch(exist_ok=False)
    try:
        # Without a buffer: one that cannot be emptied would raise once more, when it is closed.
        with temporary.open("wb", buffering=0) as handle:
            for block in place.blocks():
                came += len(block)
                left = memoryview(block)
                with storage_errors(target):
                    while left:
                        left = left[handle.write(left) :]
        if came != size:
            what = f"came short: {came} of {size} bytes"
            mend = "run the command again: files that are whole are kept"
            raise InputError(what, where=place.shown, mend=mend)
        with storage_errors(target):
            os.utime(temporary, ns=(time_s * SECOND_NS, time_s * SECOND_NS))
            temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _remove_gone(folder: Path, names: set[str]) -> None:
    """Remove files not among ``names``, incomplete ones of a day ago, and empty folders."""
    for top, folders, files in os.walk(folder, topdown=False):
        for path in (Path(top, name) for name in files):
            torn = path.name.startswith(".") and path.name.endswith(".tmp")
            recent = torn and time.time() - _time_s(path) < TORN_S
            if not recent and path.relative_to(folder).as_posix() not in names:
                path.unlink(missing_ok=True)
        for path in (Path(top, name) for name in folders):
            with suppress(OSError):  # another reader may have just begun to fill it
                path.rmdir()


def size_and_time(stamp: str) -> tuple[int, int]:
    """The bytes and whole seconds in a store's stamp; all stores agree on whole seconds."""
    size, time_ns = stamp.split()
    return int(size), int(time_ns) // SECOND_NS


def _time_s(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns // SECOND_NS
    except FileNotFoundError:
        return 0
