"""Names of recordings -> rows of answers: decoded one by one, answered a batch at a time.

Segments of several short recordings go through the classifier together; each is normalised, routed
and answered by itself, so a recording gets the answer of ``predict``, to rounding. At most one
batch of spectrograms and a few decoded recordings are in memory.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import torch
from torch import Tensor

from xmoe.audio.clip import Clip, read_clip
from xmoe.audio.field_notes import NOTHING_KNOWN, FieldNotes, find_field_notes, read_field_notes
from xmoe.audio.reading import AS_IT_IS, Reading
from xmoe.audio.sound import Sound, join_sounds
from xmoe.base.errors import AudioError
from xmoe.base.threads import map_ahead
from xmoe.batch.inputs import place_of
from xmoe.batch.ledger import Format
from xmoe.predict.answer import Answer
from xmoe.predict.predictor import Predictor

Row = dict[str, Any]
# A name, its spectrograms and sound or its error, and doubts about it.
Decoded = tuple[Tensor, Sound | None]
Waiting = tuple[str, Decoded | AudioError, list[str]]

FETCHERS = 8
MAX_FETCHED_BYTES = 1 << 30  # of one remote recording, which is held in memory
FIELD_NUMBERS = ("temperature_c", "battery_v", "latitude", "longitude", "time_expansion")


@dataclass(frozen=True)
class FileFacts:
    """The SHA-256 of a file, empty if it cannot be opened, and what its recorder wrote."""

    sha256: str = ""
    field: FieldNotes = NOTHING_KNOWN


def answer_names(
    predictor: Predictor, base: str, names: Sequence[str], reading: Reading = AS_IT_IS
) -> Iterator[Row]:
    """Yield one row for each name, in order; an unreadable recording has an ``error``.

    ``sha256`` is that of the file's bytes, whatever its location and date.
    """
    facts: dict[str, FileFacts] = {}
    for name, outcome in answer_clips(predictor, read_names(base, names, facts, reading)):
        known = facts.pop(name)
        if isinstance(outcome, AudioError):
            row = _error_row(name, outcome)
        else:
            doubt = known.field.doubt(reading.time_expansion)
            row = _answer_row(name, outcome, (*outcome.warnings, *filter(None, [doubt])))
        yield {**row, "sha256": known.sha256, **known.field.as_row()}


def answer_clips(
    predictor: Predictor, clips: Iterable[tuple[str, Clip | AudioError]]
) -> Iterator[tuple[str, Answer | AudioError]]:
    """Yield the answers to named clips in their order, computed a batch of segments at a time."""
    waiting: list[Waiting] = []
    segments = 0
    for name, clip in clips:
        if isinstance(clip, AudioError):
            waiting.append((name, clip, []))
            continue
        decoded = predictor.hear(clip.samples, clip.sample_rate_hz)
        waiting.append((name, decoded, predictor.doubts(clip.decoded)))
        segments += len(decoded[0])
        if segments >= predictor.batch:
            yield from _answer_waiting(predictor, waiting)
            waiting, segments = [], 0
    yield from _answer_waiting(predictor, waiting)


def _answer_waiting(
    predictor: Predictor, waiting: Sequence[Waiting]
) -> Iterator[tuple[str, Answer | AudioError]]:
    blocks = [decoded for _, decoded, _ in waiting if not isinstance(decoded, AudioError)]
    sounds = [sound for _, sound in blocks if sound is not None]
    sound = join_sounds(sounds) if sounds else None
    specs = [spec for spec, _ in blocks]
    answers = predictor.answer_segments(torch.cat(specs), sound) if specs else None
    first = 0
    for name, decoded, doubts in waiting:
        if isinstance(decoded, AudioError) or answers is None:
            assert isinstance(decoded, AudioError)
            yield name, decoded
            continue
        last = first + len(decoded[0])
        yield name, predictor.summarise(answers.rows(first, last), warnings=doubts)
        first = last


def read_names(
    base: str, names: Sequence[str], facts: dict[str, FileFacts], reading: Reading = AS_IT_IS
) -> Iterator[tuple[str, Clip | AudioError]]:
    """Yield every name with its clip or its error; remote files are fetched a little ahead.

    What is known of each file besides its sound is put into ``facts``.
    """
    fetch = partial(_fetch, base)
    with closing(
        map_ahead(fetch, names, threads=FETCHERS, ahead=FETCHERS, name="fetch")
    ) as fetched:
        for name, data in zip(names, fetched, strict=True):
            clip = _decode(base, name, data, reading)
            facts[name] = _find_facts(base, name, data)
            yield name, clip


def _fetch(base: str, name: str) -> bytes | AudioError | None:
    """The bytes of a recording in a store; None for a local file."""
    place = place_of(base, name)
    if place.is_local:
        return None
    try:
        data = place.read(at_most=MAX_FETCHED_BYTES + 1)
    except FileNotFoundError:
        mend = "check the name"
        return AudioError("missing", "there is no such file", where=name, mend=mend)
    if len(data) > MAX_FETCHED_BYTES:
        what = f"the file has more than {MAX_FETCHED_BYTES} bytes"
        return AudioError("too_large", what, where=name, mend="cut it into shorter files")
    return data


def _decode(
    base: str, name: str, data: bytes | AudioError | None, reading: Reading
) -> Clip | AudioError:
    if isinstance(data, AudioError):
        return data
    try:
        source = place_of(base, name).path if data is None else io.BytesIO(data)
        return read_clip(source, reading=reading, name=name)
    except AudioError as error:
        return error


def _find_facts(base: str, name: str, data: bytes | AudioError | None) -> FileFacts:
    if isinstance(data, AudioError):
        return FileFacts()
    if data is not None:
        field = read_field_notes(io.BytesIO(data), name=name)
        return FileFacts(hashlib.sha256(data).hexdigest(), field)
    place = place_of(base, name)
    if not place.path.is_file():  # a pipe would block for ever
        return FileFacts()
    return FileFacts(place.sha256(), find_field_notes(place.path))


def _answer_row(name: str, answer: Answer, warnings: Sequence[str]) -> Row:
    return {
        "file": name,
        "label": answer.label,
        "labels": ";".join(answer.labels),
        "probability": answer.probability,
        "entropy": answer.entropy,
        "uncertain": answer.uncertain,
        "k": answer.k,
        "experts": ";".join(use.name for use in answer.experts),
        "segments": answer.segments,
        "warnings": " | ".join(warnings),
        **{f"p_{name}": value for name, value in answer.probabilities.items()},
    }


def _error_row(name: str, error: AudioError) -> Row:
    mend = error.mend or "leave it out"
    return {"file": name, "error": error.code, "reason": error.what, "what_to_do": mend}


def row_schema(classes: Sequence[str]) -> pa.Schema:
    """The columns of answers: a recording has an answer or an ``error``, never both."""
    text, number = pa.string(), pa.float64()
    return pa.schema(
        [
            *((name, text) for name in ("file", "label", "labels")),
            *(("probability", number), ("entropy", number), ("uncertain", pa.bool_())),
            *(("k", number), ("experts", text), ("segments", pa.int64()), ("warnings", text)),
            *((name, text) for name in ("error", "reason", "what_to_do", "sha256")),
            *((name, text) for name in ("recorded_at", "recorder", "gain")),
            *((name, number) for name in FIELD_NUMBERS),
            *((f"p_{name}", number) for name in classes),
        ]
    )


def rows_to_bytes(rows: Sequence[Row], classes: Sequence[str], kind: Format) -> bytes:
    """Encode rows as a file of that kind; the same rows give the same bytes."""
    if kind == "jsonl":
        return "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows).encode()
    table = pa.Table.from_pylist(list(rows), schema=row_schema(classes))
    buffer = io.BytesIO()
    if kind == "csv":
        pyarrow.csv.write_csv(table, buffer)
    else:
        pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()
