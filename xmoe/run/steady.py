"""Several files of a checkpoint, read as one beside a command that replaces it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from xmoe.base.errors import RunFolderError
from xmoe.run.folder import RunFolder, Which

TRIES = 8
Value = TypeVar("Value")


def read_steadily(folder: RunFolder, read: Callable[[], Value], which: Which = "best") -> Value:
    """What ``read`` reads of a checkpoint, anew where another took its place meanwhile."""
    for _ in range(TRIES):
        before = _fingerprint(folder, which)
        try:
            value = read()
        except RunFolderError:
            if before == _fingerprint(folder, which):
                raise
            continue
        if before == _fingerprint(folder, which):
            return value
    what, mend = "its checkpoint changes all the time", "try again when nothing writes it"
    raise RunFolderError(what, where=str(folder.path), mend=mend)


def _fingerprint(folder: RunFolder, which: Which) -> str:
    """Empty where there is no checkpoint, or where one is just being replaced."""
    try:
        return folder.fingerprint(which)
    except RunFolderError:
        return ""
