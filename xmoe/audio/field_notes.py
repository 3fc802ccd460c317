"""Metadata that a recorder writes beside the sound -> when, where, and with which settings.

Read are GUANO (``guan``, lines of ``Name: value``), the comment AudioMoth leaves in ``ICMT`` (it
differs between firmwares, so each fact is searched for on its own), and the date in a file name
(``20240501_053000.WAV``), which is the recorder's local time. What cannot be parsed is left empty:
no answer depends on it.

Sources: GUANO specification 1.0 (guano-md.org); AudioMoth-Firmware-Basic.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import BinaryIO

from xmoe.audio.containers import MAX_CHUNKS

_MOST_BYTES = 1 << 16
_AUDIOMOTH = {
    "recorder": re.compile(r"(AudioMoth [0-9A-F]{16}|deployment [0-9A-F]{16})"),
    "gain": re.compile(r"at ([\w-]+) gain|gain setting (\d)"),
    "temperature_c": re.compile(r"temperature was (-?\d+(?:\.\d+)?) ?C"),
    "battery_v": re.compile(
        r"battery(?: state)? was (?:less than |greater than )?(\d+(?:\.\d+)?) ?V"
    ),
}
_RECORDED_AT = re.compile(
    r"Recorded at (\d\d:\d\d:\d\d) (\d\d)/(\d\d)/(\d{4}) \(UTC([+-]\d+)?(:\d\d)?\)"
)
_NAMED_AT = re.compile(r"(?<!\d)(\d{8})[_T-]?(\d{6})(?!\d)")


@dataclass(frozen=True)
class FieldNotes:
    """What is known of a recording; None where unknown.

    ``recorded_at`` is ISO 8601, without a zone if none is known. ``time_expansion`` is the factor
    by which the recorder says the file is slowed down.
    """

    recorded_at: str | None = None
    recorder: str | None = None
    gain: str | None = None
    temperature_c: float | None = None
    battery_v: float | None = None
    latitude: float | None = None
    longitude: float | None = None
    time_expansion: float | None = None

    def as_row(self) -> dict[str, str | float]:
        """The known values, as cells of a table."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def clock_time(self, seconds: float) -> str | None:
        """Time of day ``seconds`` after the start, to a millisecond."""
        if self.recorded_at is None:
            return None
        moment = datetime.fromisoformat(self.recorded_at) + timedelta(seconds=seconds)
        return moment.isoformat(timespec="milliseconds")

    def doubt(self, time_expansion: float) -> str | None:
        """A warning if the recorder gives another time expansion than the one used for reading."""
        if self.time_expansion in (None, time_expansion):
            return None
        return (
            f"slow: the recorder says that the file is slowed down {self.time_expansion:g} times, "
            f"but it was read as {time_expansion:g} times (--time-expansion)"
        )


NOTHING_KNOWN = FieldNotes()


def read_field_notes(file: BinaryIO, *, name: str = "") -> FieldNotes:
    notes = FieldNotes(recorded_at=_date_in(Path(name).name))
    texts = dict(_texts(file))
    if comment := texts.get(b"ICMT"):
        notes = _read_audiomoth(notes, comment)
    if guano := texts.get(b"guan"):
        notes = _read_guano(notes, guano)
    return notes


def find_field_notes(path: Path) -> FieldNotes:
    """Read the field notes of a file; none if it cannot be read."""
    try:
        with path.open("rb") as file:
            return read_field_notes(file, name=path.name)
    except (OSError, ValueError):
        return NOTHING_KNOWN


def _texts(file: BinaryIO) -> Iterator[tuple[bytes, str]]:
    """Yield the text chunks of a WAV, those inside ``LIST INFO`` too."""
    file.seek(0)
    head = file.read(12)
    if head[:4] not in (b"RIFF", b"RF64") or head[8:] != b"WAVE":
        return
    position = 12
    for _ in range(MAX_CHUNKS):
        file.seek(position)
        head = file.read(8)
        if len(head) < 8:
            return
        kind, length = head[:4], struct.unpack("<I", head[4:])[0]
        if kind == b"LIST":
            yield from _subchunks(file.read(min(length, _MOST_BYTES)))
        elif kind == b"guan":
            yield kind, _decode(file.read(min(length, _MOST_BYTES)))
        position += 8 + length + length % 2


def _subchunks(body: bytes) -> Iterator[tuple[bytes, str]]:
    position = 4 if body[:4] == b"INFO" else len(body)
    while position + 8 <= len(body):
        length = struct.unpack("<I", body[position + 4 : position + 8])[0]
        yield body[position : position + 4], _decode(body[position + 8 : position + 8 + length])
        position += 8 + length + length % 2


def _decode(raw: bytes) -> str:
    return raw.decode("utf-8", "replace").strip("\0 \r\n")


def _read_audiomoth(notes: FieldNotes, comment: str) -> FieldNotes:
    found: dict[str, str | float] = {}
    for name, pattern in _AUDIOMOTH.items():
        if match := pattern.search(comment):
            text = next(group for group in match.groups() if group)
            found[name] = float(text) if name.endswith(("_c", "_v")) else text
    if match := _RECORDED_AT.search(comment):
        clock, day, month, year, hours, minutes = match.groups()
        zone = f"{int(hours or 0):+03d}{minutes or ':00'}"
        if moment := _moment(f"{year}-{month}-{day}T{clock}{zone}"):
            found["recorded_at"] = moment
    return replace(notes, **found)  # type: ignore[arg-type]


def _read_guano(notes: FieldNotes, text: str) -> FieldNotes:
    pairs = (line.partition(":") for line in text.splitlines())
    values = {name.strip(): value.strip() for name, _, value in pairs}
    makers = (values.get(name, "") for name in ("Make", "Model", "Serial"))
    place = [_number(part) for part in values.get("Loc Position", "").split()]
    latitude, longitude = place if len(place) == 2 else (None, None)
    known = FieldNotes(
        recorded_at=_moment(values.get("Timestamp", "")),
        recorder=" ".join(filter(None, makers)) or None,
        gain=values.get("Gain"),
        temperature_c=_number(values.get("Temperature Ext", values.get("Temperature Int", ""))),
        latitude=latitude,
        longitude=longitude,
        time_expansion=_number(values.get("TE", "")),
    )
    return replace(notes, **known.as_row())  # type: ignore[arg-type]


def _date_in(name: str) -> str | None:
    match = _NAMED_AT.search(name)
    return _moment(f"{match[1]}T{match[2]}") if match else None


def _moment(text: str) -> str | None:
    try:
        return datetime.fromisoformat(text).isoformat()
    except ValueError:
        return None


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
