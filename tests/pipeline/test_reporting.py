"""The report of a real run: mistakes are seen and heard while the recordings are there."""

import io
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile as sf

from xmoe.base.errors import AudioError, DatasetError
from xmoe.base.files import read_json, write_json
from xmoe.pipeline.reporting import MistakeIllustrator, encode_wav, report_run, try_report
from xmoe.report.records import RunRecords


@pytest.fixture
def run(fitted, tmp_path):
    """Return a copy of the run in which the first test clip was answered wrongly."""
    copy = shutil.copytree(fitted.run_dir, tmp_path / "run")
    rows = pq.read_table(copy / "traces.parquet").to_pylist()
    rows[0]["labels"], rows[0]["answer"] = [rows[0]["answer"]], "none of them"
    pq.write_table(pa.Table.from_pylist(rows), copy / "traces.parquet")
    return copy


def test_training_leaves_a_report(fitted):
    text = (fitted.run_dir / "report.html").read_text()
    assert "<h1>xmoe run: run</h1>" in text
    assert "This part is absent" not in text


def test_a_mistake_is_seen_and_heard(run):
    text = report_run(run).read_text()
    assert text.count("<audio") == 1
    assert "taken for none of them" in text
    assert "with the saliency of the router over it" in text


def test_the_sound_is_the_recording(run, tones):
    records = RunRecords(run)
    clip_id = records.traces[0]["clip_id"]
    shown = MistakeIllustrator(records, tones)(clip_id)
    heard, rate_hz = sf.read(io.BytesIO(shown.wav))
    original, _ = sf.read(tones / clip_id)
    assert rate_hz == 8000
    correlation = np.corrcoef(heard, original[: len(heard)])[0, 1]
    assert correlation > 0.999 or len(heard) < len(original)
    assert shown.note == ""
    assert shown.png.startswith(b"\x89PNG")


def test_a_manifest_names_clips_too_and_a_changed_file_is_said(run, tones, tmp_path):
    moved = shutil.copytree(tones, tmp_path / "moved")
    records = RunRecords(run)
    first, second = (records.traces[i]["clip_id"] for i in (0, 1))
    shutil.copy(moved / second, moved / first)
    shown = MistakeIllustrator(records, moved, moved / "metadata.csv")(first)
    assert "not the one that the run was made with" in shown.note


def test_a_clip_or_file_that_is_gone_is_an_error(run, tmp_path):
    illustrate = MistakeIllustrator(RunRecords(run), tmp_path)
    with pytest.raises(DatasetError, match=r"clips\.parquet"):
        illustrate("no such clip")
    with pytest.raises(AudioError, match="no such file"):
        illustrate(RunRecords(run).traces[0]["clip_id"])


def test_recordings_that_are_gone_are_said(run):
    record = read_json(run / "dataset.json")
    write_json(run / "dataset.json", record | {"root": "/gone/<b>"})
    text = report_run(run).read_text()
    assert "the recordings are not at /gone/&lt;b&gt;" in text
    assert "<audio" not in text


def test_part_of_a_file_is_found_in_the_table_of_clips(run, tones):
    records = RunRecords(run)
    name = records.traces[0]["clip_id"]
    part = {"content_sha256": None, "start_s": 0.05, "end_s": 0.25}
    records.clips["part"] = records.clips[name] | part
    shown = MistakeIllustrator(records, tones)("part")
    assert len(sf.read(io.BytesIO(shown.wav))[0]) == 1600


def test_what_people_cannot_hear_is_slowed_down():
    samples = np.sin(np.arange(192_000) * 0.1).astype(np.float32)
    wav, note = encode_wav(samples, 192_000)
    heard, rate_hz = sf.read(io.BytesIO(wav))
    assert (rate_hz, note) == (22_050, "Played 4 times slower.")
    assert abs(len(heard) / rate_hz - 4.0) < 0.01
    assert encode_wav(np.zeros(10, np.float32), 8000)[1] == ""


def test_a_report_never_makes_a_training_fail(tmp_path):
    said = []
    try_report(tmp_path / "none", progress=lambda *step: said.append(step))
    assert said[0][0] == "report"
    assert said[0][3].startswith("not written: ")
