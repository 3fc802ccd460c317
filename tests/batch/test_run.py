"""A batch that was stopped goes on where it was, and ends with exactly one row each."""

import hashlib
import json
import os
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile as sf

from xmoe.audio.reading import Reading
from xmoe.base.errors import ConfigError, StorageError
from xmoe.batch.inputs import list_inputs
from xmoe.batch.run import BatchRequest, infer_batch
from xmoe.batch.shards import work_here
from xmoe.storage.place import open_place


@pytest.fixture
def request_of(tiny_run, clips, tmp_path):
    """The function that returns a request with shards of four."""

    def make(**changes):
        settings = {"run": str(tiny_run), "source": str(clips), "output": str(tmp_path / "preds")}
        return BatchRequest(**settings | {"shard_size": 4, "device": "cpu"} | changes)

    return make


def stop_after(count):
    """Return an engine that is interrupted after so many shards."""

    def engine(job, shards):
        for done, receipt in enumerate(work_here(job, shards), 1):
            yield receipt
            if done == count:
                raise KeyboardInterrupt

    return engine


def bytes_of(folder):
    found = open_place(folder).walk()
    return {f.name: hashlib.sha256((folder / f.name).read_bytes()).hexdigest() for f in found}


def test_every_recording_has_one_row(request_of, clips, tmp_path):
    calls = []
    summary = infer_batch(request_of(), progress=lambda *call: calls.append(call))
    rows = pq.read_table(tmp_path / "preds").to_pylist()
    assert [row["file"] for row in rows] == list(list_inputs(str(clips)).names)
    assert (summary.rows, summary.bad, summary.shards, summary.shards_done) == (21, 1, 6, 6)
    assert calls[-1] == ("infer", 21, 21)
    assert b"1/bad.wav,not_audio" in (tmp_path / "preds/_quarantine.csv").read_bytes()


def test_interrupted_batch_ends_with_the_bytes_of_a_whole_one(request_of, tmp_path):
    infer_batch(request_of(output=str(tmp_path / "whole")))
    with pytest.raises(KeyboardInterrupt):
        infer_batch(request_of(), engine=stop_after(2))
    assert not (tmp_path / "preds/_manifest.json").exists()
    stamps = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "preds").glob("part-*")}
    assert len(stamps) == 2
    summary = infer_batch(request_of())
    assert (summary.shards, summary.shards_done) == (6, 4)
    assert bytes_of(tmp_path / "preds") == bytes_of(tmp_path / "whole")
    for name, stamp in stamps.items():
        assert (tmp_path / "preds" / name).stat().st_mtime_ns == stamp


def test_complete_batch_is_not_done_again(request_of):
    infer_batch(request_of())

    def no_engine(job, shards):
        pytest.fail("nothing is left to do")

    assert infer_batch(request_of(), engine=no_engine).shards_done == 0


def test_damaged_part_is_done_again(request_of, tmp_path):
    infer_batch(request_of())
    (tmp_path / "preds/part-00001.parquet").write_bytes(b"x")
    assert infer_batch(request_of()).shards_done == 1
    assert pq.read_table(tmp_path / "preds").num_rows == 21


def test_other_recordings_are_refused(request_of, clips):
    infer_batch(request_of())
    with pytest.raises(ConfigError, match="another num_inputs, names_sha256"):
        infer_batch(request_of(source=f"{clips}/[01]/*.wav"))


def test_all_of_it_in_a_store(request_of, clips, bucket, tmp_path):
    infer_batch(request_of())
    for name in list_inputs(str(clips)).names:
        (open_place(f"{bucket}/set") / name).write((clips / name).read_bytes())
    stored = request_of(source=f"{bucket}/set", output=f"{bucket}/preds")
    with pytest.raises(KeyboardInterrupt):
        infer_batch(stored, engine=stop_after(3))
    assert infer_batch(stored).shards_done == 3
    for found in open_place(f"{bucket}/preds").walk():
        if found.name.startswith("part-"):
            data = (open_place(f"{bucket}/preds") / found.name).read()
            assert data == (tmp_path / "preds" / found.name).read_bytes()


def test_store_that_refuses_a_write_in_the_middle_costs_no_row(
    request_of, bucket, object_store, tmp_path
):
    stored = request_of(output=f"{bucket}/preds")
    object_store.refuse = lambda method, path: method == "PUT" and "part-00003" in path
    with pytest.raises(StorageError, match="ACCESS_DENIED") as raised:
        infer_batch(stored)
    assert raised.value.where == f"{bucket}/preds/part-00003.parquet"
    assert "as it was" in raised.value.mend
    there = {found.name for found in open_place(f"{bucket}/preds").walk()}
    assert {name for name in there if name.startswith("part-")} == {
        f"part-0000{number}.parquet" for number in range(3)
    }
    assert "_manifest.json" not in there
    object_store.refuse = lambda method, path: False
    assert infer_batch(stored).shards_done == 3
    infer_batch(request_of())
    for name in (f"part-0000{number}.parquet" for number in range(6)):
        data = (open_place(f"{bucket}/preds") / name).read()
        assert data == (tmp_path / "preds" / name).read_bytes()


def test_repeated_names_have_one_row_and_are_told(request_of, clips, tmp_path):
    table = tmp_path / "list.csv"
    names = ["0/000.wav", "0/003.wav", "0/000.wav"]
    table.write_text("filepath\n" + "".join(f"{clips}/{name}\n" for name in names))
    summary = infer_batch(request_of(source=str(table)))
    assert summary.rows == 2
    assert summary.repeated == (f"{clips}/0/000.wav",)


@pytest.fixture
def own_clips(clips, tmp_path):
    """A set of its own that may be changed."""
    return shutil.copytree(clips, tmp_path / "own")


def test_what_changed_or_came_back_is_answered_again(request_of, own_clips, tmp_path):
    table, away = own_clips / "list.csv", tmp_path / "away.wav"
    table.write_text("filepath\n" + "".join(f"0/{name:03d}.wav\n" for name in range(0, 18, 3)))
    job = request_of(source=str(table), shard_size=2)
    (own_clips / "0/003.wav").rename(away)
    first = infer_batch(job)
    assert (first.rows, first.bad, first.again, first.shards_done) == (6, 1, 0, 3)
    away.rename(own_clips / "0/003.wav")
    second = infer_batch(job)
    assert (second.bad, second.again, second.shards_done) == (0, 1, 1)
    rows = {row["file"]: row for row in pq.read_table(tmp_path / "preds").to_pylist()}
    (own_clips / "0/015.wav").write_bytes((own_clips / "0/000.wav").read_bytes())
    assert (infer_batch(job).again, infer_batch(job).again) == (1, 0)
    after = {row["file"]: row for row in pq.read_table(tmp_path / "preds").to_pylist()}
    assert after["0/015.wav"]["entropy"] != rows["0/015.wav"]["entropy"]
    assert after["0/015.wav"]["entropy"] == pytest.approx(after["0/000.wav"]["entropy"], abs=1e-5)


def test_what_was_only_touched_or_copied_is_not_answered_again(request_of, own_clips, tmp_path):
    job = request_of(source=str(own_clips))
    infer_batch(job)
    moved = shutil.copytree(own_clips, tmp_path / "copy", copy_function=shutil.copyfile)
    shutil.rmtree(own_clips)
    moved.rename(own_clips)
    summary = infer_batch(job)
    assert (summary.again, summary.shards_done) == (0, 0)
    entry = json.loads((tmp_path / "preds/_done/00000.json").read_text())
    first = list_inputs(str(own_clips))
    assert tuple(entry["stamps"]) == first.stamps[:4]
    digest = hashlib.sha256((own_clips / first.names[0]).read_bytes()).hexdigest()
    assert entry["digests"][0] == digest


def test_another_recording_of_the_same_size_and_time_is_answered(request_of, own_clips):
    job = request_of(source=str(own_clips))
    infer_batch(job)
    path = own_clips / "0/000.wav"
    data, status = path.read_bytes(), path.stat()
    path.write_bytes(data[:-2] + bytes([data[-2] ^ 1, data[-1]]))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_size == status.st_size
    assert infer_batch(job).again == 1


def test_what_could_not_be_opened_is_tried_again(request_of, own_clips):
    (own_clips / "0/dir.wav").symlink_to(own_clips / "0/dir.wav")
    assert infer_batch(request_of(source=str(own_clips))).bad == 2
    assert infer_batch(request_of(source=str(own_clips))).again == 1


def test_doubtful_answers_are_counted_and_say_why(request_of, own_clips, tmp_path):
    sf.write(own_clips / "silent.wav", np.zeros((4000, 1)), 8000)
    summary = infer_batch(request_of(source=str(own_clips)))
    rows = {row["file"]: row for row in pq.read_table(tmp_path / "preds").to_pylist()}
    assert "silent" in rows["silent.wav"]["warnings"]
    assert summary.doubtful == sum(bool(row["warnings"]) for row in rows.values())


def test_channel_and_time_expansion_belong_to_the_plan(request_of, own_clips, tmp_path):
    for path in own_clips.rglob("0*.wav"):
        samples, rate = sf.read(path)
        sf.write(path, np.stack([np.zeros_like(samples), samples], 1), rate, subtype="PCM_16")
    first = request_of(source=str(own_clips), reading=Reading(channel=1))
    assert infer_batch(first).doubtful == 20
    with pytest.raises(ConfigError, match="another channel"):
        infer_batch(request_of(source=str(own_clips)))
    second = request_of(
        source=str(own_clips), output=str(tmp_path / "b"), reading=Reading(2, time_expansion=10.0)
    )
    infer_batch(second)
    rows = pq.read_table(tmp_path / "b").to_pylist()
    assert not any("silent" in (row["warnings"] or "") for row in rows)
