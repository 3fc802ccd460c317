"""A manifest file (CSV, JSON Lines, Parquet) -> rows of text, with the line that each came from.

The tables are written by people and spreadsheets, so everything that can be wrong with the file
itself (encoding, separators, ragged rows, no header) is said here, with the line and the remedy.
What the columns mean is ``xmoe.audio.layouts``' business.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from xmoe.base.errors import DatasetError

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")


@dataclass(frozen=True)
class Table:
    """The cells of a manifest as stripped text; ``lines`` (from 1) name each row's origin."""

    path: Path
    columns: tuple[str, ...]
    rows: tuple[dict[str, str], ...]
    lines: tuple[int, ...]

    def where(self, index: int) -> str:
        """Name one row for an error: ``metadata.csv line 7``."""
        unit = "row" if self.path.suffix == ".parquet" else "line"
        return f"{self.path} {unit} {self.lines[index]}"


def read_table(path: Path, *, empty_ok: bool = False) -> Table:
    """Read a manifest by its suffix; raises ``DatasetError`` for anything wrong with the file.

    One without a row is wrong unless ``empty_ok``.
    """
    suffix = path.suffix.lower()
    if suffix not in TABLE_SUFFIXES:
        mend = f"use one of {', '.join(TABLE_SUFFIXES)}"
        raise DatasetError(f"a manifest cannot be read from {suffix!r}", where=str(path), mend=mend)
    try:
        if suffix == ".parquet":
            table = _read_parquet(path)
        else:
            text = _read_text(path)
            is_json = suffix in (".jsonl", ".ndjson")
            table = _read_json_lines(path, text) if is_json else _read_csv(path, text)
    except OSError as error:
        reason = (error.strerror or "cannot be read").lower()
        mend = "check the path and the permissions"
        raise DatasetError(f"manifest: {reason}", where=str(path), mend=mend) from None
    if not (table.rows or empty_ok):
        mend = "write one row per recording under the header"
        raise DatasetError("the manifest lists no recordings", where=str(path), mend=mend)
    return table


def _read_text(path: Path) -> str:
    raw = path.read_bytes()
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        what = f"line {line} is not UTF-8 text (byte {raw[error.start]:#04x})"
        mend = "save it as UTF-8, for example: iconv -f latin1 -t utf-8 OLD.csv > NEW.csv"
        raise DatasetError(what, where=str(path), mend=mend) from None


def _read_csv(path: Path, text: str) -> Table:
    reader = csv.reader(text.splitlines(keepends=True), delimiter=_delimiter(text), strict=True)
    records = list(_csv_records(reader, path))
    if not records:
        mend = "begin with a header, for example: filepath,split,label"
        raise DatasetError("the manifest is empty", where=str(path), mend=mend)
    columns = tuple(cell.strip() for cell in records[0][1])
    _check_columns(path, columns)
    rows, lines = [], []
    for line, cells in records[1:]:
        if len(cells) > len(columns):
            what = f"line {line} has {len(cells)} cells, the header names {len(columns)}"
            mend = 'put cells that contain the separator in quotes, like "a, b"'
            raise DatasetError(what, where=str(path), mend=mend)
        cells += [""] * (len(columns) - len(cells))
        rows.append({name: cell.strip() for name, cell in zip(columns, cells, strict=True)})
        lines.append(line)
    return Table(path, columns, tuple(rows), tuple(lines))


def _csv_records(reader: Iterator[list[str]], path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield (line, cells) of records that are not blank."""
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            line = getattr(reader, "line_num", 0)
            mend = "check the quotes on that line and the one before"
            raise DatasetError(f"line {line}: {error}", where=str(path), mend=mend) from None
        if any(cell.strip() for cell in cells):
            yield getattr(reader, "line_num", 0), cells


def _delimiter(text: str) -> str:
    """Return the header's separator: a comma unless the header only has tabs or semicolons."""
    header = text.split("\n", 1)[0]
    if "," not in header:
        for other in ("\t", ";"):
            if other in header:
                return other
    return ","


def _check_columns(path: Path, columns: tuple[str, ...]) -> None:
    repeated = sorted({name for name in columns if name and columns.count(name) > 1})
    if repeated:
        what = f"the header names {', '.join(repeated)} more than once"
        raise DatasetError(what, where=str(path), mend="give every column its own name")


def _read_json_lines(path: Path, text: str) -> Table:
    rows, lines = [], []
    for line, record_text in enumerate(text.splitlines(), start=1):
        if not record_text.strip():
            continue
        try:
            record = json.loads(record_text)
        except (ValueError, RecursionError):
            mend = 'write one object per line, like {"file_name": "a.wav", "label": "dog"}'
            what = f"line {line} is not JSON"
            raise DatasetError(what, where=str(path), mend=mend) from None
        if not isinstance(record, dict):
            what = f"line {line} is not a JSON object"
            raise DatasetError(what, where=str(path), mend="write one object per line")
        rows.append({str(name): _as_text(value) for name, value in record.items()})
        lines.append(line)
    columns = tuple(dict.fromkeys(name for row in rows for name in row))
    filled = tuple({name: row.get(name, "") for name in columns} for row in rows)
    return Table(path, columns, filled, tuple(lines))


def _read_parquet(path: Path) -> Table:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except (pyarrow.ArrowException, ValueError) as error:
        mend = "write it again, or save it as CSV"
        what = f"is no Parquet file ({str(error).splitlines()[0][:80]})"
        raise DatasetError(what, where=str(path), mend=mend) from None
    columns = tuple(str(name) for name in table.column_names)
    _check_columns(path, columns)
    rows = tuple(
        {name: _as_text(value) for name, value in record.items()} for record in table.to_pylist()
    )
    return Table(path, columns, rows, tuple(range(1, len(rows) + 1)))


def _as_text(value: object) -> str:
    """Return a cell as text; a list of labels becomes ``a;b``, nothing becomes nothing."""
    if value is None:
        return ""
    if isinstance(value, list):
        return ";".join(_as_text(item) for item in value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()
