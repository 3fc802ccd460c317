"""Recordings that could not be used -> ``quarantine.csv``: the file, why, and what to do.

The table is opened in spreadsheets, so cells that one would run as a formula are disarmed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from xmoe.base.errors import AudioError
from xmoe.base.files import to_csv, write_bytes

HEADER = ("file", "code", "reason", "what_to_do")


@dataclass(frozen=True)
class Quarantined:
    """One recording that was left out, with the code and message of its ``AudioError``."""

    filepath: str
    code: str
    reason: str
    mend: str

    @classmethod
    def from_error(cls, filepath: str, error: AudioError) -> Quarantined:
        return cls(filepath, error.code, error.what, error.mend or "leave it out")


def write_quarantine(path: str | Path, rows: Iterable[Quarantined]) -> None:
    """Write the table, sorted by file, all or nothing. Raises ``StorageError``."""
    write_bytes(Path(path), quarantine_bytes(rows))


def quarantine_bytes(rows: Iterable[Quarantined]) -> bytes:
    ordered = sorted(rows, key=lambda row: (row.filepath, row.code))
    return to_csv([HEADER, *(map(_disarm, vars(row).values()) for row in ordered)])


def _disarm(cell: str) -> str:
    """Keep a cell on one line and put ``'`` before what a spreadsheet would run as a formula."""
    text = "".join(letter if letter.isprintable() else "?" for letter in cell)
    return f"'{text}" if text.lstrip()[:1] in ("=", "+", "-", "@") else text
