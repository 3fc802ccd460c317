"""Rows are what ``predict`` answers, one for each name, in order, with memory that is bounded."""

import hashlib
import io
import json
import os
import struct

import numpy as np
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import soundfile as sf

from xmoe.audio.clip import read_clip
from xmoe.audio.reading import Reading
from xmoe.base.errors import InputError
from xmoe.batch import answers as module
from xmoe.batch.answers import answer_names, row_schema, rows_to_bytes
from xmoe.batch.inputs import list_inputs
from xmoe.predict.predictor import Predictor
from xmoe.storage.place import open_place

BAD = "1/bad.wav"


@pytest.fixture(scope="module")
def predictor(tiny_run):
    return Predictor.load(tiny_run)


@pytest.fixture(scope="module")
def rows(predictor, clips):
    inputs = list_inputs(str(clips))
    return list(answer_names(predictor, inputs.base, inputs.names))


def test_one_row_each_in_order(rows, clips):
    assert [row["file"] for row in rows] == list(list_inputs(str(clips)).names)
    assert len(rows) == 21


def test_answers_are_those_of_predict(rows, predictor, clips):
    for row in rows:
        if row["file"] == BAD:
            continue
        clip = read_clip(clips / row["file"])
        alone = predictor.predict(clip.samples, clip.sample_rate_hz)
        assert (row["label"], row["k"], row["segments"]) == (alone.label, alone.k, alone.segments)
        for name, value in alone.probabilities.items():
            assert row[f"p_{name}"] == pytest.approx(value, abs=1e-4)
        assert row["experts"] == ";".join(use.name for use in alone.experts)


def test_bad_recording_has_a_reason_and_no_answer(rows):
    bad = next(row for row in rows if row["file"] == BAD)
    assert bad["error"] == "not_audio"
    assert set(bad) == {"file", "error", "reason", "what_to_do", "sha256"}


def test_rows_say_which_bytes_were_answered(rows, clips):
    for row in rows:
        assert row["sha256"] == hashlib.sha256((clips / row["file"]).read_bytes()).hexdigest()


def test_small_batches_give_the_same(rows, predictor, clips, monkeypatch):
    monkeypatch.setattr(predictor, "batch", 3)
    inputs = list_inputs(str(clips))
    small = list(answer_names(predictor, inputs.base, inputs.names))
    assert [row["file"] for row in small] == [row["file"] for row in rows]
    for one, other in zip(small, rows, strict=True):
        assert one.get("label") == other.get("label")
        assert one.get("probability", 0) == pytest.approx(other.get("probability", 0), abs=1e-4)


def test_only_bad_recordings(predictor, clips):
    (row,) = answer_names(predictor, str(clips), [BAD])
    assert row["error"] == "not_audio"


def test_no_names_no_rows(predictor, clips):
    assert list(answer_names(predictor, str(clips), [])) == []


def test_clips_are_read_a_batch_at_a_time(predictor, clips, monkeypatch):
    """When the first answer comes out, one batch and what is fetched ahead have been read."""
    monkeypatch.setattr(predictor, "batch", 4)
    read = []

    def count(source, *, name, **how):
        read.append(name)
        return read_clip(source, name=name, **how)

    monkeypatch.setattr(module, "read_clip", count)
    inputs = list_inputs(str(clips))
    next(iter(answer_names(predictor, inputs.base, inputs.names)))
    assert len(read) <= 4


def test_store_gives_the_rows_of_the_disk(rows, predictor, clips, bucket):
    inputs = list_inputs(str(clips))
    for name in inputs.names:
        (open_place(f"{bucket}/set") / name).write((clips / name).read_bytes())
    assert list(answer_names(predictor, f"{bucket}/set", inputs.names)) == rows


def test_missing_and_too_large_in_a_store(predictor, bucket, monkeypatch):
    open_place(f"{bucket}/large.wav").write(b"1234")
    monkeypatch.setattr(module, "MAX_FETCHED_BYTES", 3)
    found = answer_names(predictor, bucket, ["gone.wav", "large.wav"])
    assert [row["error"] for row in found] == ["missing", "too_large"]


def test_store_that_fails_stops_the_job(predictor, bucket, object_store):
    object_store.refuse = lambda method, path: method == "HEAD"
    with pytest.raises(InputError, match="cannot be read"):
        list(answer_names(predictor, bucket, ["a.wav"]))


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl"])
def test_every_kind_holds_the_same_rows(rows, kind):
    data = rows_to_bytes(rows, ("click", "tone"), kind)
    assert data == rows_to_bytes(rows, ("click", "tone"), kind)
    if kind == "jsonl":
        assert [json.loads(line) for line in data.splitlines()] == rows
        return
    read = pq.read_table if kind == "parquet" else pyarrow.csv.read_csv
    table = read(io.BytesIO(data))
    assert table.column_names == row_schema(("click", "tone")).names
    assert table["file"].to_pylist() == [row["file"] for row in rows]
    assert table["p_tone"].to_pylist() == [row.get("p_tone") for row in rows]


def test_a_pipe_in_a_table_is_refused_without_waiting(predictor, tmp_path):
    os.mkfifo(tmp_path / "a.wav")
    (row,) = answer_names(predictor, str(tmp_path), ["a.wav"])
    assert (row["error"], row["sha256"]) == ("unreadable", "")


def test_rows_say_when_where_and_by_whom_a_recording_was_made(predictor, tmp_path, bucket):
    lines = ("Make: Pettersson", "Timestamp: 2024-05-01T05:30:00+02:00", "Loc Position: 47.5 -8.25")
    guano = "\n".join((*lines, "TE: 10")).encode()
    name = "20230101_000000.wav"
    sf.write(tmp_path / name, 0.1 * np.sin(np.arange(4000) * 0.2), 8000, subtype="PCM_16")
    data = (tmp_path / name).read_bytes() + b"guan" + struct.pack("<I", len(guano)) + guano
    (tmp_path / name).write_bytes(data)
    (row,) = answer_names(predictor, str(tmp_path), [name])
    assert row["recorded_at"] == "2024-05-01T05:30:00+02:00"
    assert (row["recorder"], row["latitude"], row["longitude"]) == ("Pettersson", 47.5, -8.25)
    assert "slowed down 10 times, but it was read as 1 times" in row["warnings"]
    (open_place(bucket) / name).write(data)
    assert list(answer_names(predictor, bucket, [name])) == [row]
    (fast,) = answer_names(predictor, str(tmp_path), [name], Reading(time_expansion=10.0))
    assert "slow" not in fast["warnings"]
    table = pq.read_table(io.BytesIO(rows_to_bytes([row], predictor.config.classes, "parquet")))
    assert table["recorded_at"].to_pylist() == ["2024-05-01T05:30:00+02:00"]
    assert table["gain"].to_pylist() == [None]
