"""Events of one recording -> files that people, programs, Raven and Audacity open."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from xmoe.annotate.events import Event
from xmoe.audio.annotations import Annotation, format_audacity, format_raven
from xmoe.audio.field_notes import NOTHING_KNOWN, FieldNotes
from xmoe.base.files import write_bytes

EventFormat = Literal["csv", "jsonl", "parquet", "raven", "audacity"]
SUFFIXES: dict[str, str] = {
    "csv": ".events.csv",
    "jsonl": ".events.jsonl",
    "parquet": ".events.parquet",
    "raven": ".selections.txt",
    "audacity": ".labels.txt",
}
SCHEMA = pa.schema(
    [
        ("file", pa.string()),
        ("start_s", pa.float64()),
        ("end_s", pa.float64()),
        ("label", pa.string()),
        ("probability", pa.float64()),
        ("peak", pa.float64()),
        ("start_sample", pa.int64()),
        ("end_sample", pa.int64()),
        ("clock_time", pa.string()),
        ("recorder", pa.string()),
        ("latitude", pa.float64()),
        ("longitude", pa.float64()),
    ]
)


def event_rows(
    events: Sequence[Event], *, file: str, sample_rate_hz: int, field: FieldNotes = NOTHING_KNOWN
) -> list[dict[str, Any]]:
    """Return the events as rows; seconds are samples over the rate, exactly.

    ``clock_time`` is when an event began, where its recorder wrote when the recording did.
    """
    return [
        {
            "file": file,
            "start_s": event.start_s,
            "end_s": event.end_s,
            "label": event.label,
            "probability": round(event.probability, 6),
            "peak": round(event.peak, 6),
            "start_sample": round(event.start_s * sample_rate_hz),
            "end_sample": round(event.end_s * sample_rate_hz),
            "clock_time": field.clock_time(event.start_s),
            "recorder": field.recorder,
            "latitude": field.latitude,
            "longitude": field.longitude,
        }
        for event in events
    ]


def write_events(
    out: Path,
    rows: Sequence[dict[str, Any]],
    *,
    stem: str,
    formats: Sequence[EventFormat],
    band_hz: tuple[float, float],
    time_expansion: float = 1.0,
) -> dict[str, Path]:
    """Write the rows in each format, each file at once or not at all; returns their paths.

    Raven and Audacity show a file that is ``time_expansion`` times slower than life as it is, so
    theirs are the times and frequencies of the file; those of the other tables are of life.
    """
    slower = time_expansion
    spans = [
        Annotation(r["start_s"] * slower, r["end_s"] * slower, r["label"], r["peak"]) for r in rows
    ]
    band_hz = (band_hz[0] / slower, band_hz[1] / slower)
    name = rows[0]["file"] if rows else ""
    encoders: dict[str, Callable[[], bytes]] = {
        "csv": lambda: _encode_csv(rows),
        "jsonl": lambda: "".join(json.dumps(row) + "\n" for row in rows).encode(),
        "parquet": lambda: _encode_parquet(rows),
        "raven": lambda: format_raven(spans, band_hz=band_hz, file_name=Path(name).name).encode(),
        "audacity": lambda: format_audacity(spans).encode(),
    }
    written: dict[str, Path] = {}
    for kind in formats:
        path = out / f"{stem}{SUFFIXES[kind]}"
        write_bytes(path, encoders[kind]())
        written[kind] = path
    return written


def _encode_csv(rows: Sequence[dict[str, Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, SCHEMA.names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def _encode_parquet(rows: Sequence[dict[str, Any]]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(list(rows), schema=SCHEMA), sink)
    data: bytes = sink.getvalue().to_pybytes()
    return data
