"""Recordings that could not be used -> ``quarantine.csv``: the file, why, and what to do.

The table is meant for a spreadsheet, so a cell that one would run as a formula is disarmed.
"""

from __future__ import annotations

import csv
import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from xmoe.errors import AudioError, StorageError

HEADER = ("file", "code", "reason", "what_to_do")


@dataclass(frozen=True)
class Quarantined:
    """One recording that was left out, with the code and the words of its ``AudioError``."""

    filepath: str
    code: str
    reason: str
    mend: str

    @classmethod
    def from_error(cls, filepath: str, error: AudioError) -> Quarantined:
        """Take code, reason and remedy from the error that the file met."""
        return cls(filepath, error.code, error.what, error.mend or "leave it out")


def write_quarantine(path: str | Path, rows: Iterable[Quarantined]) -> None:
    """Write the table, sorted by file; it appears whole or not at all. Raises ``StorageError``."""
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        partial = Path(name)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(HEADER)
                for row in sorted(rows, key=lambda row: (row.filepath, row.code)):
                    cells = (row.filepath, row.code, row.reason, row.mend)
                    writer.writerow(_disarm(cell) for cell in cells)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        reason = (error.strerror or "cannot be written").lower()
        mend = "check the folder's permissions and the space left"
        raise StorageError(f"quarantine: {reason}", where=str(path), mend=mend) from error


def _disarm(cell: str) -> str:
    """Put ``'`` before a cell that a spreadsheet would take for a formula."""
    text = cell.encode("utf-8", "replace").decode("utf-8")
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
