"""Raven selection tables, Audacity label tracks and plain tables <-> labelled spans of a recording.

Praat TextGrids are read too, by crowsetta where it is installed.

Times are written with nine decimals, to the nanosecond: a time that is a whole number of samples
comes back as the same sample at any rate up to 384 kHz.

Sources: Raven Pro user's manual (selection tables: tab-separated text with named columns); Audacity
manual, "Importing and Exporting Labels" (start, end, label, tabs between; lines that begin with a
backslash hold the frequencies of the label above).
"""

from __future__ import annotations

import importlib
import io
import math
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from xmoe.audio import layouts
from xmoe.audio.layouts import PATH_COLUMNS
from xmoe.audio.tables import (
    TABLE_SUFFIXES,
    Table,
    header_of,
    parse_number,
    parse_table,
    parse_time,
    pick_column,
    read_table,
)
from xmoe.audio.text import read_text
from xmoe.base.errors import DatasetError

RAVEN_START, RAVEN_END = "Begin Time (s)", "End Time (s)"
RAVEN_LABELS = ("Annotation", "Label", "Species", "Class", "Type", "Call Type")
RAVEN_SCORE = "Score"
RAVEN_FILE, RAVEN_OFFSET = "Begin File", "File Offset (s)"
FOLDER_COLUMNS = ("Begin Path", *layouts.FOLDER_COLUMNS)
LABEL_COLUMNS = ("label", "labels", "class", "category")
# Our own and Raven's names win over those of BirdNET, OpenSoundscape, DCASE and Kaleidoscope.
START_COLUMNS = ("start_s", RAVEN_START, "Start (s)", "start_time", "onset", "onset_s", "start")
END_COLUMNS = ("end_s", RAVEN_END, "End (s)", "end_time", "offset", "offset_s", "end")
OTHER_LABELS = (
    *("event_label", "Common Name", "Scientific Name"),
    *("MANUAL ID", "AUTO ID", "TOP1MATCH"),
)
DURATION_COLUMNS = ("duration", "duration_s", "Delta Time (s)")
OTHER_FILES = ("IN FILE",)
SCORE_COLUMNS = (RAVEN_SCORE, "probability", "confidence")
TEXTGRID_SUFFIX = ".textgrid"
MEND = (
    "export it again from Raven (tab-separated), from Audacity, or as csv with start_s,end_s,label"
)


class Annotation(NamedTuple):
    """A label from ``start_s`` to ``end_s`` of a recording.

    ``probability`` and the recording's name ``file`` are there where the table gives them.
    """

    start_s: float
    end_s: float
    label: str
    probability: float | None = None
    file: str = ""


def read_annotations(path: Path, *, label_column: str | None = None) -> tuple[Annotation, ...]:
    """Read a Raven table, Audacity labels, a TextGrid, or a csv, JSONL or Parquet table.

    ``label_column`` names the column of labels if it is not one of the usual names. A file may hold
    no annotations. Raises ``DatasetError`` that names the line.
    """
    suffix = path.suffix.lower()
    if suffix == TEXTGRID_SUFFIX:
        return _read_textgrid(path)
    if suffix in TABLE_SUFFIXES:
        return _read_rows(read_table(path, empty_ok=True), label_column)
    text = read_text(path).text
    if has_times(header_of(text)):
        return _read_rows(parse_table(path, text), label_column)
    return _read_audacity(path, text)


def has_times(columns: Sequence[str]) -> bool:
    return all(find_times(columns)[:2])


def find_times(columns: Sequence[str]) -> tuple[str | None, str | None, bool]:
    """The columns of start and end, and whether the latter is a duration.

    Kaleidoscope's ``OFFSET`` and ``DURATION`` are a start and a length; DCASE's ``offset`` is an
    end.
    """
    start, end = (pick_column(columns, names) for names in (START_COLUMNS, END_COLUMNS))
    length = pick_column(columns, DURATION_COLUMNS)
    if length is None or (start and end):
        return start, end, False
    return start or pick_column(columns, ("offset", "offset_s")), length, True


def _read_rows(table: Table, label_column: str | None) -> tuple[Annotation, ...]:
    """Read a table, taking a Raven selection that appears in several views once.

    Selection numbers restart where tables were concatenated, so the whole row identifies a
    selection.
    """
    if not table.columns:  # JSON Lines without a line
        return ()
    start, end, is_length = find_times(table.columns)
    if not (start and end):
        missing = "start_s" if end or not start else "end_s"
        what = f"no column {missing!r}; the columns are {', '.join(table.columns)}"
        raise DatasetError(what, where=str(table.path), mend=MEND)
    is_raven = start == table.pick((RAVEN_START,))
    usual = (*RAVEN_LABELS, *LABEL_COLUMNS) if is_raven else (*LABEL_COLUMNS, *RAVEN_LABELS)
    column = _pick(table, label_column, (*usual, *OTHER_LABELS))
    number, score = table.pick(("Selection",)) if is_raven else None, table.pick(SCORE_COLUMNS)
    found: dict[tuple[str, Annotation], Annotation] = {}
    for index, row in enumerate(table.rows):
        where = table.where(index)
        chance = row[score] if score else ""
        one = _make(row[start], row[end], row[column], chance, where, is_length)
        one = _in_its_file(one, row, table, where)
        found.setdefault(((row[number] if number else "") or str(-index - 1), one), one)
    files = {one.file for one in found.values()}
    if is_raven and len(files) > 1 and not table.pick((RAVEN_OFFSET,)):
        what = f"has selections in {len(files)} files, but no column {RAVEN_OFFSET!r}"
        mend = "add the measurement File Offset in Raven, or save one table for each file"
        raise DatasetError(what, where=str(table.path), mend=mend)
    return tuple(found.values())


def _in_its_file(one: Annotation, row: dict[str, str], table: Table, where: str) -> Annotation:
    """Name the file of an annotation and count its times from that file's start.

    Raven counts ``Begin Time (s)`` from the start of everything opened together. A path is better
    than a name: recordings of several sites may share a name.
    """
    offset, folder, name = (
        row[column] if (column := table.pick(names)) else ""
        for names in ((RAVEN_OFFSET,), FOLDER_COLUMNS, (RAVEN_FILE, *PATH_COLUMNS, *OTHER_FILES))
    )
    inside = folder.replace("\\", "/").rpartition("/")[2] == name
    file = f"{folder}/{name}" if folder and name and not inside else folder or name
    if not offset:
        return one._replace(file=file)
    begins = _make(offset, offset, one.label, "", where).start_s
    return one._replace(start_s=begins, end_s=begins + one.end_s - one.start_s, file=file)


def _read_audacity(path: Path, text: str) -> tuple[Annotation, ...]:
    found = []
    for number, line in enumerate(io.StringIO(text, newline=None), 1):
        if not line.strip() or line.startswith("\\"):
            continue
        cells = line.rstrip("\n").split("\t", 2)
        where = f"{path} line {number}"
        if len(cells) < 2:
            what = "is neither a Raven table nor Audacity labels"
            raise DatasetError(what, where=where, mend=MEND)
        found.append(_make(cells[0], cells[1], (cells[2:] or [""])[0], "", where))
    return tuple(found)


def _read_textgrid(path: Path) -> tuple[Annotation, ...]:
    """Read the intervals of every tier of a Praat TextGrid that have a label."""
    try:
        reader = importlib.import_module("crowsetta.formats.seq").TextGrid
    except ImportError as error:
        mend = "pip install 'xmoe[annotations]', or export a table with start_s,end_s,label"
        what = "a TextGrid is read by crowsetta, which is not installed"
        raise DatasetError(what, where=str(path), mend=mend) from error
    text = read_text(path).text
    try:
        with tempfile.NamedTemporaryFile("w", suffix=".TextGrid", encoding="utf-8") as copy:
            copy.write(text)
            copy.flush()
            tiers = reader.from_file(copy.name).to_seq(round_times=False)
    except Exception as error:  # its parser raises anything on a damaged file
        what = f"is not a TextGrid ({str(error).splitlines()[0][:80] if str(error) else error!r})"
        raise DatasetError(what, where=str(path), mend="save it again from Praat") from error
    return tuple(
        _make(str(one.onset_s), str(one.offset_s), one.label, "", str(path))
        for tier in (tiers if isinstance(tiers, list) else [tiers])
        for one in tier.segments
    )


def _pick(table: Table, wanted: str | None, usual: Sequence[str]) -> str:
    """The label column: the first usual one with any content, else the first one there."""
    names = (wanted,) if wanted else usual
    found = [column for name in names if (column := table.pick((name,)))]
    filled = [column for column in found if any(row[column] for row in table.rows)]
    if found:
        return (filled or found)[0]
    what = f"no column {wanted or usual[0]!r}; the columns are {', '.join(table.columns)}"
    mend = "name the column of the labels (--label-column)"
    raise DatasetError(what, where=str(table.path), mend=mend)


def _make(
    start: str, end: str, label: str, score: str, where: str, is_length: bool = False
) -> Annotation:
    """Parse one annotation; decimal commas and times like 1:02:03.5 are accepted."""
    start_s, end_s = (
        math.nan if (number := parse_time(cell)) is None else number for cell in (start, end)
    )
    if is_length:
        end_s += start_s
    if not 0.0 <= start_s <= end_s < math.inf:
        what = f"the times {start!r} and {end!r} are not two rising numbers of seconds"
        if is_length:
            what = f"the time {start!r} and the duration {end!r} are not two numbers of seconds"
        raise DatasetError(what, where=where, mend=MEND)
    probability = parse_number(score)
    if probability is not None and math.isnan(probability):
        probability = None  # Score is free text in some tables
    return Annotation(start_s, end_s, label.strip(), probability)


def format_raven(
    annotations: Iterable[Annotation], *, band_hz: tuple[float, float], file_name: str = ""
) -> str:
    """A Raven selection table in which every selection spans ``band_hz``."""
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
    return "".join(
        f"{format_time(one.start_s)}\t{format_time(one.end_s)}\t{_one_line(one.label)}\n"
        for one in annotations
    )


def format_time(seconds: float) -> str:
    return f"{seconds:.9f}"


def _one_line(text: str) -> str:
    return " ".join(text.split())
