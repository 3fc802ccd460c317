"""A table file (CSV, JSON Lines, Parquet) -> rows of text, with the line that each came from.

The one reader of manifests, annotation tables and lists of inputs. People and spreadsheets write
them, so every flaw of the file itself (separators, ragged rows, no header) is reported here with
its line and remedy, and missing values become empty text however they are spelled. The meaning of
the columns is the caller's business.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xmoe.audio.text import LFS_MEND, LFS_POINTER, read_text
from xmoe.base.errors import DatasetError

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
# "NA" and "none" are names of classes too, so they are missing only where a number is expected.
MISSING = frozenset(("", "nan", "-nan", "<na>", "#n/a", "#na", "n/a", "null", "nat"))
_NO_NUMBER = MISSING | {"na", "none", "-", "?"}
_SEPARATORS = (",", ";", "\t", "|")
_QUOTED = re.compile(r'^"(.*)"$')
_SEPARATOR_LINE = re.compile(r'\s*"?sep=(?P<mark>.)"?[ \t,;]*(\r\n|\r|\n|$)', re.IGNORECASE)


@dataclass(frozen=True)
class Table:
    """The cells of a table as stripped text; ``lines`` (from 1) say where each row came from.

    ``notes`` say in plain words what was guessed.
    """

    path: Path
    columns: tuple[str, ...]
    rows: tuple[dict[str, str], ...]
    lines: tuple[int, ...]
    notes: tuple[str, ...] = ()

    def where(self, index: int) -> str:
        """One row for an error message: ``metadata.csv line 7``."""
        unit = "row" if self.path.suffix == ".parquet" else "line"
        return f"{self.path} {unit} {self.lines[index]}"

    def pick(self, names: Iterable[str]) -> str | None:
        return pick_column(self.columns, names)

    def need(self, names: Sequence[str], where: str = "") -> str:
        """The column that ``names`` mean; raises ``DatasetError`` if there is none."""
        if column := self.pick(names):
            return column
        what = f"no column {names[0]!r}; the columns are {', '.join(self.columns) or 'none'}"
        mend = f"name one column {names[0]} (also accepted: {', '.join(names[1:])})"
        raise DatasetError(what, where=where or str(self.path), mend=mend)


def pick_column(columns: Sequence[str], names: Iterable[str]) -> str | None:
    """The first of ``names`` among ``columns``, else ignoring case, spaces and dashes."""
    folded = {_fold(column): column for column in reversed(columns)}
    found = (name if name in columns else folded.get(_fold(name)) for name in names)
    return next((column for column in found if column), None)


def _fold(name: str) -> str:
    return re.sub(r"[\s_\u200b\ufeff-]+", "", name.casefold())


def parse_number(cell: str) -> float | None:
    """A number, perhaps with a decimal comma; NaN for other text, None for a missing value."""
    if cell.strip().casefold() in _NO_NUMBER:
        return None
    try:
        return float(cell if "." in cell else cell.replace(",", "."))
    except ValueError:
        return math.nan


def parse_time(cell: str) -> float | None:
    """A number of seconds, which may be written ``1:02:03.5`` or ``2:03,5``.

    NaN for other text, None for a missing value.
    """
    parts = [parse_number(part) for part in cell.split(":")]
    if len(parts) == 1:
        return parts[0]
    numbers = [math.nan if part is None else part for part in parts]
    whole = all(number.is_integer() for number in numbers[:-1])
    if len(numbers) > 3 or not whole or not all(0 <= number < 60 for number in numbers[1:]):
        return math.nan
    return math.fsum(number * 60**place for place, number in enumerate(reversed(numbers)))


def read_table(path: Path, *, empty_ok: bool = False) -> Table:
    """Read a table by its suffix; raises ``DatasetError`` for anything wrong with the file.

    A table without rows is wrong unless ``empty_ok``.
    """
    suffix = path.suffix.lower()
    if suffix not in TABLE_SUFFIXES:
        mend = f"use one of {', '.join(TABLE_SUFFIXES)}"
        raise DatasetError(f"a manifest cannot be read from {suffix!r}", where=str(path), mend=mend)
    if suffix == ".parquet":
        table = _read_parquet(path)
    else:
        text, note = read_text(path)
        parse = _read_json_lines if suffix in (".jsonl", ".ndjson") else parse_table
        table = parse(path, text, (note,) if note else ())
    if not (table.rows or empty_ok):
        mend = "write one row per recording under the header"
        raise DatasetError("the manifest lists no recordings", where=str(path), mend=mend)
    return table


def parse_table(path: Path, text: str, notes: tuple[str, ...] = ()) -> Table:
    """Read text with a header and a separator; a first line like ``sep=;`` names the separator."""
    records = _split(path, text)
    if not records:
        mend = "begin with a header, for example: filepath,split,label"
        raise DatasetError("the manifest is empty", where=str(path), mend=mend)
    columns = tuple(cell.strip() for cell in records[0][1])
    _check_columns(path, columns)
    rows, lines = [], []
    for line, cells in records[1:]:
        if any(cell.strip() for cell in cells[len(columns) :]):
            what = f"line {line} has {len(cells)} cells, the header names {len(columns)}"
            mend = 'put cells that contain the separator in quotes, like "a, b" or "0,5"'
            raise DatasetError(what, where=str(path), mend=mend)
        cells = cells[: len(columns)] + [""] * (len(columns) - len(cells))
        rows.append({name: _clean(cell) for name, cell in zip(columns, cells, strict=True)})
        lines.append(line)
    return Table(path, columns, tuple(rows), tuple(lines), notes)


def header_of(text: str) -> list[str]:
    """The cells of the first line that is not blank; none if there is no such line."""
    line, separator = _header_line(text)
    return [cell.strip().strip('"') for cell in line.split(separator)] if line else []


def _header_line(text: str) -> tuple[str, str]:
    """The header and the separator: the one that is named, else the most frequent in the header."""
    named = _SEPARATOR_LINE.match(text)
    rest = text[named.end() :] if named else text
    line = next((line for line in io.StringIO(rest, newline=None) if line.strip()), "").rstrip("\n")
    bare = re.sub('"[^"]*"', "", line)
    return line, named["mark"] if named else max(_SEPARATORS, key=bare.count)


def _split(path: Path, text: str) -> list[tuple[int, list[str]]]:
    """(line, cells) of all records that are not blank.

    Raven writes cells unquoted, even with stray quotes in them, so a table with tabs is read
    without quoting if its quotes make no sense or a cell spans lines.
    """
    separator = _header_line(text)[1]
    if named := _SEPARATOR_LINE.match(text):
        text = "\n" * len(named[0].splitlines()) + text[named.end() :]
    lines = io.StringIO(text, newline="")
    reader = csv.reader(lines, delimiter=separator, strict=True, skipinitialspace=separator != "\t")
    try:
        records = list(_csv_records(reader, path))
    except DatasetError:
        if separator != "\t":
            raise
    else:
        if separator != "\t" or not any("\n" in cell for _, cells in records for cell in cells):
            return records
    lines = io.StringIO(text, newline="")
    plain = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE, strict=True)
    return [
        (line, [_QUOTED.sub(r"\1", cell) for cell in cells])
        for line, cells in _csv_records(plain, path)
    ]


def _csv_records(reader: Any, path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield (line, cells) of records that are not blank."""
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield reader.line_num, cells
    except csv.Error as error:
        what = f"line {reader.line_num}: {error}"
        mend = "check the quotes on that line and the one before"
        raise DatasetError(what, where=str(path), mend=mend) from None


def _check_columns(path: Path, columns: tuple[str, ...]) -> None:
    repeated = sorted({name for name in columns if name and columns.count(name) > 1})
    if repeated:
        what = f"the header names {', '.join(repeated)} more than once"
        raise DatasetError(what, where=str(path), mend="give every column its own name")


def _read_json_lines(path: Path, text: str, notes: tuple[str, ...]) -> Table:
    rows, lines = [], []
    for line, record_text in enumerate(io.StringIO(text, newline=None), start=1):
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
        rows.append({str(name).strip(): _as_text(value) for name, value in record.items()})
        lines.append(line)
    columns = tuple(dict.fromkeys(name for row in rows for name in row))
    filled = tuple({name: row.get(name, "") for name in columns} for row in rows)
    return Table(path, columns, filled, tuple(lines), notes)


def _read_parquet(path: Path) -> Table:
    import pyarrow
    import pyarrow.parquet

    try:
        with path.open("rb") as handle:
            if handle.read(len(LFS_POINTER)) == LFS_POINTER:
                what = "is a Git LFS pointer, not the table itself"
                raise DatasetError(what, where=str(path), mend=LFS_MEND)
        table = pyarrow.parquet.read_table(path)
    except OSError as error:
        reason = (error.strerror or "cannot be read").lower()
        mend = "check the path and the permissions"
        raise DatasetError(reason, where=str(path), mend=mend) from None
    except (pyarrow.ArrowException, ValueError) as error:
        mend = "write it again, or save it as CSV"
        what = f"is not a Parquet file ({str(error).splitlines()[0][:80]})"
        raise DatasetError(what, where=str(path), mend=mend) from None
    columns = tuple(str(name) for name in table.column_names)
    _check_columns(path, columns)
    rows = tuple(
        {name: _as_text(value) for name, value in record.items()} for record in table.to_pylist()
    )
    return Table(path, columns, rows, tuple(range(1, len(rows) + 1)))


def _as_text(value: object) -> str:
    """A cell as text: a list of labels becomes ``a;b``, a missing value is empty."""
    if value is None or value != value:  # NaN is the only value that is not itself
        return ""
    if isinstance(value, list):
        return ";".join(filter(None, map(_as_text, value)))
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return _clean(str(value))


def _clean(cell: str) -> str:
    cell = cell.strip()
    return "" if cell.casefold() in MISSING else cell
