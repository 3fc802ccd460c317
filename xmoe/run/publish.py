"""A run folder that is written on this machine -> the same folder at an address, and back.

A run is trained in the cache and copied to its address whenever a checkpoint is there, and whole at
the end. What differs by size and time is sent, files first, then settings, the pointers that name a
checkpoint, and the figures: whoever reads meanwhile finds the checkpoint of before or the new one,
whole. A run that was stopped goes on from what is here and what is there, whichever is newer, also
on another machine. One writer of a run at a time; what is written beside one, as by an evaluation,
has a folder of its own.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from filelock import FileLock, Timeout

from xmoe.base.errors import ConfigError, InputError, RunFolderError, StorageError, XmoeError
from xmoe.base.files import storage_errors
from xmoe.base.progress import Progress, polling, silent
from xmoe.base.threads import map_ahead
from xmoe.run.folder import CHECKPOINTS, RunFile, pointer_file
from xmoe.storage.mirror import (
    SECOND_NS,
    UNPUBLISHED,
    WORKERS,
    cache_folder,
    cached,
    fetch_folder,
    is_address,
    size_and_time,
)
from xmoe.storage.place import Place, open_place

POLL_S = 2.0
FETCHES = 5
CACHES = (RunFile.FEATURES, RunFile.STORES)
POINTERS = (pointer_file("last"), pointer_file("best"))
# What is told by its being there comes last, in this order; a checkpoint's own settings too.
MARKS = [
    PurePosixPath(name).name
    for name in (RunFile.CONFIG, *POINTERS, RunFile.CLOSED, RunFile.METRICS)
]


@contextmanager
def published(
    out: str | Path, *, resume: bool | None = None, progress: Progress = silent
) -> Iterator[Path]:
    """Give the folder to write to for ``out``; that of an address is copied there at the end.

    ``resume`` is whether a run at the address is gone on with; None writes over what is there.
    After an error or an interruption what was not copied yet stays on this machine, for ``resume``.
    Raises ConfigError where there is a run that is not gone on with, or another command of this
    machine writes one, StorageError where the address cannot be written at the end.
    """
    if not is_address(out):
        yield open_place(out).path if "://" in str(out) else Path(out)
        return
    place, own = open_place(out), f"{UNPUBLISHED}/beside-{uuid.uuid4().hex}"
    folder = cached(place, own if resume is None else UNPUBLISHED)
    copy = cache_folder() / own if resume is None else folder
    with nullcontext() if resume is None else _claimed(folder, place):
        is_run = any((place / name).kind() == "file" for name in (*POINTERS, RunFile.METRICS))
        if is_run and resume is False:
            mend = "go on with it (--resume), or name another folder with --out"
            raise ConfigError("the folder holds a run already", where=place.shown, mend=mend)
        with storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        if resume and place.kind() == "folder":
            fetch_folder(place.address, to=folder, progress=progress)
        try:
            with _following(folder, place, progress):
                yield folder
        except BaseException:
            if resume is None:  # nobody goes on with it
                shutil.rmtree(copy, ignore_errors=True)
            raise
        try:
            push(folder, place, progress=progress)
        except StorageError as error:
            mend = f"{error.mend}; until then all of it is in {folder}"
            raise StorageError(error.what, where=error.where, mend=mend) from error
        shutil.rmtree(copy, ignore_errors=True)


@contextmanager
def _claimed(folder: Path, place: Place) -> Iterator[None]:
    """Keep other commands of this machine from a run; ConfigError where one writes it."""
    with storage_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        held = FileLock(folder.with_name(f".{folder.name}.lock")).acquire(timeout=0)
    except Timeout as error:
        what = "another command writes to this address"
        mend = "wait until it ends, or name another folder with --out"
        raise ConfigError(what, where=place.shown, mend=mend) from error
    with held:
        yield


@contextmanager
def _following(folder: Path, place: Place, progress: Progress) -> Iterator[None]:
    """Copy what is written whenever a checkpoint was named, but for features that are in work."""
    seen: list[bytes] = []

    def look() -> None:
        nonlocal seen
        try:
            paths = [path for name in POINTERS if (path := folder / name).is_file()]
            named = [path.read_bytes() for path in paths]
            if named != seen:
                push(folder, place, without=RunFile.FEATURES)
            seen = named
        except (OSError, XmoeError) as error:  # tried again; at the end it is an error
            progress("publish", 0, 1, str(error))

    with polling(look, every_s=POLL_S):
        yield


def fetch_run(run: str | Path) -> Path:
    """Whole run folder on this machine, all but features fetched to the cache.

    Raises RunFolderError where a training names new checkpoints faster than they are fetched.
    """
    if not is_address(run):
        return open_place(run).path if "://" in str(run) else Path(run)
    place = open_place(run)
    for _ in range(FETCHES):
        failed, before = None, [(place / name).stamp() for name in POINTERS]
        try:
            fetch_folder(
                place.address, wanted=lambda name: PurePosixPath(name).parts[0] not in CACHES
            )
        except InputError as error:  # a pointer to a longer name is one that came short
            failed = error
        if before == [(place / name).stamp() for name in POINTERS]:
            if failed:
                raise failed
            return cached(place)
    mend = "run the command again when the training is over"
    raise RunFolderError("the run changed while it was fetched", where=place.shown, mend=mend)


def push(folder: Path, place: Place, *, without: str = "", progress: Progress = silent) -> None:
    """Send what differs of a folder, marks last, and remove checkpoints that are no more.

    Raises FileNotFoundError where a file was replaced meanwhile: no mark was sent then that names
    it. StorageError where the address cannot be written.
    """
    there = {one.name: one.stamp for one in place.walk()} if place.kind() == "folder" else {}

    def list_files() -> list[str]:
        names = [one.name for one in open_place(folder).walk()]
        return [name for name in names if PurePosixPath(name).parts[0] not in passed]

    def send(name: str) -> None:
        with (folder / name).open("rb") as file:
            _send(file, place / name, there.get(name))

    passed = {RunFile.STORES, without}
    marks = [name for name in list_files() if _name(name) in MARKS]
    marks.sort(key=lambda name: MARKS.index(_name(name)))
    with ExitStack() as stack:
        # Opened before other files are looked for, so that all that they speak of is among those.
        opened = {name: stack.enter_context((folder / name).open("rb")) for name in marks}
        files = list_files()
        data = [name for name in files if name not in opened]
        sent = map_ahead(send, data, threads=WORKERS, name="storage")
        for done, _ in enumerate(sent, 1):
            progress("publish", done, len(files))
        for name, file in opened.items():
            _send(file, place / name, there.get(name))
        progress("publish", len(files), len(files))
    held = {PurePosixPath(name).parent for name in marks if _name(name) in map(_name, POINTERS)}
    for old in _checkpoints(there) - _checkpoints(files):
        if old.parent in held:
            (place / old.as_posix()).remove_folder()


def _send(file: BinaryIO, target: Place, stamp: str | None) -> None:
    """Write an open file to a store that has another, or none, and give it the store's time."""
    status = os.fstat(file.fileno())
    size, time_s = size_and_time(stamp) if stamp else (-1, 0)
    if (size, time_s * SECOND_NS) == (status.st_size, status.st_mtime_ns):
        return  # what was written anew within that second has a part of it
    target.write_from(file)
    time_ns = size_and_time(target.stamp())[1] * SECOND_NS
    os.utime(file.fileno(), ns=(time_ns, time_ns))  # of this file, not of one that replaced it


def _name(name: str) -> str:
    return PurePosixPath(name).name


def _checkpoints(names: Iterable[str]) -> set[PurePosixPath]:
    """Folders of checkpoints that files are in."""
    folders = {up for name in names for up in PurePosixPath(name).parents}
    return {folder for folder in folders if folder.parent.name == CHECKPOINTS}
