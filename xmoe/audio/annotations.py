"""Raven selection tables, Audacity label tracks and plain tables <-> labelled spans of a recording.

Praat TextGrids are read too, by crowsetta where it is installed.

Times are written with nine decimals. That is a nanosecond, so a time that is a whole number of
samples comes back as the same sample at any rate up to 384 kHz.

Sources: Raven Pro user's manual (selection tables: tab-separated text with named columns);
Audacity manual, "Importing and Exporting Labels" (start, end, label, tabs between; lines that begin
with a backslash hold the frequencies of the label above).
"""

from __future__ import annotations

import csv
import importlib
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from xmoe.audio.layouts import PATH_COLUMNS
from xmoe.audio.tables import TABLE_SUFFIXES, Table, read_table
from xmoe.base.errors import DatasetError

RAVEN_START, RAVEN_END = "Begin Time (s)", "End Time (s)"
RAVEN_LABELS = ("Annotation", "Label", "Species", "Class", "Type", "Call Type")
RAVEN_SCORE = "Score"
RAVEN_FILE, RAVEN_OFFSET = "Begin File", "File Offset (s)"
TIME_COLUMNS = ("start_s", "end_s")
TEXTGRID_SUFFIX = ".textgrid"
LABEL_COLUMNS = ("label", "labels", "class", "category")
MEND = (
    "export it again from Raven (tab-separated), from Audacity, or as csv with start_s,end_s,label"
)


class Annotation(NamedTuple):
    """A label from ``start_s`` to ``end_s`` of a recording, with a probability where known.

    ``file`` is the recording's name where the table gives one.
    """

    start_s: float
    end_s: float
    label: str
    probability: float | None = None
    file: str = ""


def read_annotations(path: Path, *, label_column: str | None = None) -> tuple[Annotation, ...]:
    """Read a Raven table, Audacity labels, a TextGrid, or a csv, JSONL or Parquet table.

    ``label_column`` names the column of the labels where it is not one of the usual. A file may
    hold no annotation at all. Raises ``DatasetError`` that names the line.
    """
    if path.suffix.lower() in TABLE_SUFFIXES:
        return _read_plain(path, label_column)
    if path.suffix.lower() == TEXTGRID_SUFFIX:
        return _read_textgrid(path)
    lines = _read_lines(path)
    if lines and RAVEN_START in lines[0].split("\t"):
        return _read_raven(path, lines, label_column)
    return _read_audacity(path, lines)


def _read_lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        mend = "save it as UTF-8, for example: iconv -f latin1 -t utf-8 OLD.txt > NEW.txt"
        raise DatasetError("is not UTF-8 text", where=str(path), mend=mend) from error
    except OSError as error:
        reason = (error.strerror or "cannot be read").lower()
        raise DatasetError(reason, where=str(path), mend="check path and permissions") from error


def _read_raven(
    path: Path, lines: Sequence[str], label_column: str | None
) -> tuple[Annotation, ...]:
    """Read a selection table; a selection that stands in several views is taken once.

    Numbers begin again where tables were put together, so a selection is told by all of its row.
    """
    rows = list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
    names = list(rows[0]) if rows else lines[0].split("\t")
    column = _pick(path, names, label_column, RAVEN_LABELS)
    found: dict[tuple[str, Annotation], Annotation] = {}
    for index, row in enumerate(rows):
        where = f"{path} line {index + 2}"
        score = row.get(RAVEN_SCORE)
        annotation = _make(row.get(RAVEN_START), row.get(RAVEN_END), row.get(column), score, where)
        annotation = _in_its_file(annotation, row, where)
        found.setdefault((row.get("Selection") or str(-index - 1), annotation), annotation)
    files = {one.file for one in found.values()}
    if len(files) > 1 and RAVEN_OFFSET not in names:
        what = f"selects in {len(files)} files, but has no column {RAVEN_OFFSET!r}"
        mend = "add the measurement File Offset in Raven, or save one table for each file"
        raise DatasetError(what, where=str(path), mend=mend)
    return tuple(found.values())


def _in_its_file(one: Annotation, row: dict[str, str], where: str) -> Annotation:
    """Return an annotation in the time of the file that it begins in.

    Raven counts ``Begin Time (s)`` from the start of everything that was opened together.
    """
    file, offset = (row.get(RAVEN_FILE) or "").strip(), row.get(RAVEN_OFFSET)
    if not offset:
        return one._replace(file=file)
    length_s = one.end_s - one.start_s
    begins = _make(offset, offset, one.label, None, where).start_s
    return one._replace(start_s=begins, end_s=begins + length_s, file=file)


def _read_audacity(path: Path, lines: Sequence[str]) -> tuple[Annotation, ...]:
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("\\"):
            continue
        cells = line.split("\t", 2)
        where = f"{path} line {number}"
        if len(cells) < 2:
            raise DatasetError(
                "is neither a Raven table nor Audacity labels", where=where, mend=MEND
            )
        found.append(_make(cells[0], cells[1], (cells[2:] or [""])[0], None, where))
    return tuple(found)


def _read_plain(path: Path, label_column: str | None) -> tuple[Annotation, ...]:
    table: Table = read_table(path, empty_ok=True)
    if not table.columns:  # JSON Lines without a line
        return ()
    for name in TIME_COLUMNS:
        if name not in table.columns:
            what = f"no column {name!r}; the columns are {', '.join(table.columns)}"
            raise DatasetError(what, where=str(path), mend=MEND)
    column = _pick(path, table.columns, label_column, LABEL_COLUMNS)
    file = next((name for name in PATH_COLUMNS if name in table.columns), "")
    found = []
    for index, row in enumerate(table.rows):
        times, score = (row["start_s"], row["end_s"]), row.get("probability")
        one = _make(*times, row[column], score, table.where(index))
        found.append(one._replace(file=row.get(file, "")))
    return tuple(found)


def _read_textgrid(path: Path) -> tuple[Annotation, ...]:
    """Read the intervals of every tier of a Praat TextGrid that have a label."""
    try:
        reader = importlib.import_module("crowsetta.formats.seq").TextGrid
    except ImportError as error:
        mend = "pip install 'xmoe[annotations]', or export a table with start_s,end_s,label"
        what = "a TextGrid is read by crowsetta, which is not installed"
        raise DatasetError(what, where=str(path), mend=mend) from error
    try:
        tiers = reader.from_file(path).to_seq(round_times=False)
    except Exception as error:  # its parser raises whatever a torn file makes it raise
        what = f"is no TextGrid ({str(error).splitlines()[0][:80] if str(error) else error!r})"
        raise DatasetError(what, where=str(path), mend="save it again from Praat") from error
    return tuple(
        _make(str(one.onset_s), str(one.offset_s), one.label, None, str(path))
        for tier in (tiers if isinstance(tiers, list) else [tiers])
        for one in tier.segments
    )


def _pick(path: Path, names: Sequence[str], wanted: str | None, usual: Sequence[str]) -> str:
    for name in (wanted,) if wanted else usual:
        if name in names:
            return name
    what = f"no column {wanted or usual[0]!r}; the columns are {', '.join(names)}"
    raise DatasetError(what, where=str(path), mend="name the column of the labels (--label-column)")


def _make(
    start: str | None, end: str | None, label: str | None, score: str | None, where: str
) -> Annotation:
    """Return one annotation from text; a decimal comma is understood."""
    try:
        start_s, end_s = (float((cell or "").replace(",", ".")) for cell in (start, end))
    except ValueError:
        start_s = end_s = math.nan
    if not 0.0 <= start_s <= end_s < math.inf:
        what = f"the times {start!r} and {end!r} are not two rising numbers of seconds"
        raise DatasetError(what, where=where, mend=MEND)
    try:
        probability = float(score) if score else None
    except ValueError:
        probability = None  # Score is free text in some tables
    return Annotation(start_s, end_s, (label or "").strip(), probability)


def format_raven(
    annotations: Iterable[Annotation], *, band_hz: tuple[float, float], file_name: str = ""
) -> str:
    """Return a Raven selection table; every selection spans the band that was listened to."""
    names = ("Selection", "View", "Channel", RAVEN_START, RAVEN_END, "Low Freq (Hz)")
    lines = ["\t".join((*names, "High Freq (Hz)", "Begin File", "Annotation", RAVEN_SCORE))]
    band = tuple(f"{edge:.3f}" for edge in band_hz)
    for number, one in enumerate(annotations, 1):
        score = "" if one.probability is None else f"{one.probability:.6f}"
        times = (format_time(one.start_s), format_time(one.end_s))
        cells = (str(number), "Spectrogram 1", "1", *times, *band, _one_line(file_name))
        lines.append("\t".join((*cells, _one_line(one.label), score)))
    return "\n".join(lines) + "\n"


def format_audacity(annotations: Iterable[Annotation]) -> str:
    """Return an Audacity label track."""
    return "".join(
        f"{format_time(one.start_s)}\t{format_time(one.end_s)}\t{_one_line(one.label)}\n"
        for one in annotations
    )


def format_time(seconds: float) -> str:
    """Return a time exact to a nanosecond."""
    return f"{seconds:.9f}"


def _one_line(text: str) -> str:
    return " ".join(text.split())
