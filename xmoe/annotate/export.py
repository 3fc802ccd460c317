"""Events of one recording -> files for people, programs, Raven and Audacity."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from xmoe.annotate.events import Event
from xmoe.audio.annotations import Annotation, format_audacity, format_raven
from xmoe.audio.field_notes import NOTHING_KNOWN, FieldNotes
from xmoe.base.files import to_csv, write_bytes

EventFormat = Literal["csv", "jsonl", "parquet", "raven", "audacity"]
SUFFIXES: dict[str, str] = {
    **{kind: f".events.{kind}" for kind in ("csv", "jsonl", "parquet")},
    "raven": ".selections.txt",
    "audacity": ".labels.txt",
}
TEXT, NUMBER = pa.string(), pa.float64()
SCHEMA = pa.schema(
    [
        *(("file", TEXT), ("start_s", NUMBER), ("end_s", NUMBER), ("label", TEXT)),
        *(("probability", NUMBER), ("peak", NUMBER)),
        *(("start_sample", pa.int64()), ("end_sample", pa.int64())),
        *(("clock_time", TEXT), ("recorder", TEXT), ("latitude", NUMBER), ("longitude", NUMBER)),
    ]
)


def event_rows(
    events: Sequence[Event], *, file: str, sample_rate_hz: int, field: FieldNotes = NOTHING_KNOWN
) -> list[dict[str, Any]]:
    """The events as rows; seconds are exactly samples over the rate.

    ``clock_time`` is when an event started, if the recorder noted the start of the recording.
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
    """Write the rows in each format, each file all or nothing; returns their paths.

    Raven and Audacity show a time-expanded file as it is, so theirs are the times and frequencies
    of the file; the other tables hold those of the original sound.
    """
    slower = time_expansion
    spans = [
        Annotation(r["start_s"] * slower, r["end_s"] * slower, r["label"], r["peak"]) for r in rows
    ]
    band_hz = (band_hz[0] / slower, band_hz[1] / slower)
    name = rows[0]["file"] if rows else ""
    encoders: dict[str, Callable[[], bytes]] = {
        "csv": lambda: to_csv(
            [SCHEMA.names, *([row[name] for name in SCHEMA.names] for row in rows)]
        ),
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


def _encode_parquet(rows: Sequence[dict[str, Any]]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(list(rows), schema=SCHEMA), sink)
    data: bytes = sink.getvalue().to_pybytes()
    return data
