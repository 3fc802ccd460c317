"""Files that a reader sees whole or not at all, and JSON that is the same for the same values."""

from __future__ import annotations

import csv
import errno
import io
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from xmoe.base.config import Frozen
from xmoe.base.errors import RunFolderError, StorageError

RESTORE = "restore the file from a copy, or train again"
TRAIN_AGAIN = "train again, or name a run folder that `xmoe train` wrote"


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn a disk error while writing ``path`` into a StorageError with the remedy."""
    try:
        yield
    except (OSError, SafetensorError) as error:  # safetensors wraps a full disk in its own
        what = f"cannot write: {getattr(error, 'strerror', None) or error}"
        mend = "free some space, or name a writable folder with --out"
        if getattr(error, "errno", None) in (errno.EROFS, errno.EACCES, errno.EPERM):
            mend = "make it writable, name another with --out, or work on a copy of the run"
        elif getattr(error, "errno", None) in (errno.EEXIST, errno.ENOTDIR):
            mend = "a file stands where a folder should be: name another place"
        raise StorageError(what, where=str(path), mend=mend) from error


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file so that a reader sees the old bytes or the new ones, never a part."""
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            with temporary.open("wb") as handle:
                handle.write(data)
                handle.flush()
                os.fsync(handle.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def to_json(value: Any) -> str:
    """Canonical JSON: sorted keys, two spaces, no NaN (non-finite numbers become null)."""
    return json.dumps(_plain(value), indent=2, sort_keys=True, allow_nan=False) + "\n"


def write_json(path: Path, value: Any) -> None:
    write_bytes(path, to_json(value).encode())


def to_csv(rows: Iterable[Iterable[object]]) -> bytes:
    """Encode rows as CSV with plain newlines, whatever the platform."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def read_json(path: Path) -> Any:
    """Read a JSON file; RunFolderError names it if it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunFolderError("no such file", where=str(path), mend=TRAIN_AGAIN) from error
    except (OSError, ValueError, RecursionError) as error:
        what = f"not readable as JSON: {error}"
        raise RunFolderError(what, where=str(path), mend=RESTORE) from error


def _plain(value: Any) -> Any:
    if isinstance(value, Frozen):
        return _plain(value.model_dump(mode="json"))
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
