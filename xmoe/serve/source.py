"""A path or an s3://, gs:// or file:// address -> a run folder on this machine.

A replica fetches what it needs and nothing more: configuration, manifest, and its own weights.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath

from xmoe.artifacts import RunFolder, Which, read_json
from xmoe.errors import RunFolderError, StorageError

CHECK_ADDRESS = "check the address, and that this machine may read it"


def open_run(
    run: str, parts: Sequence[str], *, which: Which = "best", wanted: Sequence[str] = ()
) -> RunFolder:
    """Return a run folder in which ``parts`` (stem, router, expert-<name>) of a checkpoint are.

    A path is used where it is; an address is copied to a temporary folder first, with the files
    ``wanted`` beside the checkpoint where they are there. Raises
    RunFolderError where the address cannot be read or is no run, StorageError where there is no
    room for the copy.
    """
    if "://" not in run:
        return RunFolder(run)
    target = Path(tempfile.mkdtemp(prefix="xmoe-run-"))
    try:
        _copy_run(run, target, parts, which, wanted)
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise
    return RunFolder(target)


def _copy_run(
    run: str, target: Path, parts: Sequence[str], which: Which, wanted: Sequence[str]
) -> None:
    from pyarrow import fs

    try:
        files, root = fs.FileSystem.from_uri(run)
    except Exception as error:  # pyarrow raises its own kinds for each store
        raise RunFolderError(
            "the address cannot be opened", where=run, mend=CHECK_ADDRESS
        ) from error

    def copy(name: str) -> Path:
        local = target / name
        try:
            with files.open_input_stream(str(PurePosixPath(root) / name)) as stream:
                data = stream.read()
        except OSError as error:
            raise RunFolderError("cannot be read", where=f"{run}/{name}", mend=CHECK_ADDRESS) from (
                error
            )
        try:
            local.parent.mkdir(parents=True, exist_ok=True)
            local.write_bytes(data)
        except OSError as error:
            raise StorageError("cannot write", where=str(local), mend="free some space") from error
        return local

    copy("run_config.json")
    pointer = read_json(copy(f"checkpoints/{which}.json"))
    folder = pointer.get("folder") if isinstance(pointer, dict) else None
    if not isinstance(folder, str) or PurePosixPath(folder).name != folder:
        raise RunFolderError("names no checkpoint", where=f"{run}/checkpoints/{which}.json")
    for name in ("manifest.json", *(f"{part}.safetensors" for part in parts)):
        copy(f"checkpoints/{folder}/{name}")
    for name in wanted:
        with suppress(RunFolderError):  # a run may lack its reports
            copy(name)
