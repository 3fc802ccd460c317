"""A run folder at a path or an address -> a run folder on this machine.

Each process fetches no more than it needs: configuration, manifest, and the weights it asks for.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from xmoe.base.errors import InputError, RunFolderError
from xmoe.base.files import TRAIN_AGAIN, read_json, storage_errors
from xmoe.run.folder import (
    CHECKPOINTS,
    MANIFEST,
    RunFile,
    RunFolder,
    Which,
    answering_parts,
    expert_part,
    pointer_file,
    weights_file,
)
from xmoe.run.pretrained import kept_files
from xmoe.run.version import check_version
from xmoe.storage.place import CHECK_ADDRESS, Place, open_place


def open_run(
    run: str | Path, parts: Sequence[str], *, which: Which = "best", wanted: Sequence[str] = ()
) -> RunFolder:
    """A run folder that holds ``parts`` (stem, router, expert-<name>) of a checkpoint.

    A path is used in place; an address is copied to a temporary folder first, with those of the
    files ``wanted`` beside the checkpoint that exist. Raises RunFolderError where the address
    cannot be read or is no run, RunVersionError for a run of another version, StorageError where
    there is no room for the copy.
    """
    if "://" not in str(run):
        folder = RunFolder(run)
        folder.check_version()
        return folder
    target = Path(tempfile.mkdtemp(prefix="xmoe-run-"))
    try:
        _fetch_parts(open_source(str(run)), target, parts, which)
        _fetch_wanted(open_source(str(run)), target, wanted)
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise
    return RunFolder(target)


@contextmanager
def fetched(
    run: str | Path, parts: Sequence[str], *, which: Which = "best", wanted: Sequence[str] = ()
) -> Iterator[RunFolder]:
    """Yield what ``open_run`` returns; a copy that was made for it is removed afterwards."""
    folder = open_run(run, parts, which=which, wanted=wanted)
    try:
        yield folder
    finally:
        if folder.path != Path(run):
            shutil.rmtree(folder.path, ignore_errors=True)


@contextmanager
def fetched_for_predicting(run: str | Path, *, which: Which = "best") -> Iterator[RunFolder]:
    """Yield a run folder with all that a predictor loads."""
    with fetched(run, [], which=which) as folder:
        experts = folder.read_config().model.expert_names
    parts = answering_parts(experts)
    with fetched(run, parts, which=which) as folder:
        yield folder


def identify_run(run: str | Path, *, which: Which = "best") -> str:
    """16 hex digits, the same for the same settings and weights wherever they are kept."""
    with fetched(run, [], which=which) as folder:
        manifest = folder.checkpoint_folder(which) / MANIFEST
        digest = hashlib.sha256()
        for path in (folder.file(RunFile.CONFIG), manifest):
            try:
                digest.update(path.read_bytes())
            except OSError as error:
                what = f"cannot be read: {error.strerror}"
                raise RunFolderError(what, where=str(path), mend=TRAIN_AGAIN) from error
    return digest.hexdigest()[:16]


def open_source(run: str) -> Place:
    try:
        return open_place(run)
    except InputError as error:
        raise RunFolderError(error.what, where=error.where, mend=error.mend) from error


def _fetch_parts(source: Place, target: Path, parts: Sequence[str], which: Which) -> None:
    check_version(
        read_json(_copy(source, target, RunFile.CONFIG)),
        where=f"{source.shown}/{RunFile.CONFIG}",
        read_dataset=lambda: read_json(_copy(source, target, RunFile.DATASET)),
    )
    pointer = read_json(_copy(source, target, pointer_file(which)))
    folder = pointer.get("folder") if isinstance(pointer, dict) else None
    if not isinstance(folder, str) or PurePosixPath(folder).name != folder:
        where = f"{source.shown}/{pointer_file(which)}"
        raise RunFolderError("names no checkpoint", where=where)
    try:
        for name in (MANIFEST, *map(weights_file, parts)):
            _copy(source, target, f"{CHECKPOINTS}/{folder}/{name}")
    except RunFolderError:
        if read_json(_copy(source, target, pointer_file(which))) == pointer:
            raise
        _fetch_parts(source, target, parts, which)  # another checkpoint was named meanwhile
        return
    _fetch_wanted(source, target, [f"{CHECKPOINTS}/{folder}/{RunFile.CONFIG}"])
    for spec in RunFolder(target).read_config().model.experts:
        for name in kept_files(spec) if expert_part(spec.name) in parts else ():
            _copy(source, target, name)


def _fetch_wanted(source: Place, target: Path, wanted: Sequence[str]) -> None:
    for name in wanted:
        with suppress(RunFolderError):  # a run may lack its reports
            _copy(source, target, name)


def _copy(source: Place, target: Path, name: str) -> Path:
    local = target / name
    data = _read(source / name)
    with storage_errors(local):
        local.parent.mkdir(parents=True, exist_ok=True)
        local.write_bytes(data)
    return local


def _read(place: Place) -> bytes:
    try:
        return place.read()
    except FileNotFoundError as error:
        what = "there is no such file"
        raise RunFolderError(what, where=place.shown, mend=CHECK_ADDRESS) from error
    except InputError as error:
        raise RunFolderError(error.what, where=place.shown, mend=CHECK_ADDRESS) from error
