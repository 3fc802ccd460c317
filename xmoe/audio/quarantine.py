"""Recordings that could not be used -> ``quarantine.csv``: the file, why, and what to do.

The table is meant for a spreadsheet, so a cell that one would run as a formula is disarmed.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from xmoe.base.errors import AudioError
from xmoe.base.files import write_bytes

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
    write_bytes(Path(path), quarantine_bytes(rows))


def quarantine_bytes(rows: Iterable[Quarantined]) -> bytes:
    """Return the table as CSV, sorted by file."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    for row in sorted(rows, key=lambda row: (row.filepath, row.code)):
        writer.writerow(_disarm(cell) for cell in (row.filepath, row.code, row.reason, row.mend))
    return text.getvalue().encode("utf-8")


def _disarm(cell: str) -> str:
    """Keep a cell on one line and put ``'`` before what a spreadsheet would take for a formula."""
    text = "".join(letter if letter.isprintable() else "?" for letter in cell)
    return f"'{text}" if text.lstrip()[:1] in ("=", "+", "-", "@") else text
