"""Suggestions are recordings that the run does not know, with the part that it doubts most."""

import csv

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile as sf

from xmoe.audio.annotations import read_annotations
from xmoe.audio.clip import read_clip
from xmoe.audio.layouts import read_layout
from xmoe.batch.inputs import list_inputs
from xmoe.batch.suggest import (
    Suggestion,
    doubt_recording,
    known_sounds,
    suggest,
    write_suggested,
)
from xmoe.predict.predictor import Predictor
from xmoe.run.folder import RunFolder


@pytest.fixture(scope="module")
def found(tiny_run, clips):
    return suggest(tiny_run, str(clips), 5, device="cpu")


def test_so_many_recordings_are_suggested_once_each(found, clips):
    files = [row.file for row in found.rows]
    assert len(set(files)) == 5
    assert set(files) < set(list_inputs(str(clips)).names)
    assert (found.answered, found.known) == (20, 0)
    assert found.bad[0].startswith("1/bad.wav: ")
    assert found.notes == ("left out, by ending: .txt (1)",)


def test_they_stand_for_the_shortlist(found):
    assert sum(row.stands_for for row in found.rows) == 20
    assert min(row.stands_for for row in found.rows) >= 1


def test_the_same_recordings_give_the_same(found, tiny_run, clips):
    assert suggest(tiny_run, str(clips), 5, device="cpu").rows == found.rows


def test_the_answer_is_that_of_the_segment_in_most_doubt(tiny_run, clips):
    predictor = Predictor.load(tiny_run)
    clip = read_clip(clips / "0" / "006.wav")
    row = doubt_recording(predictor, "x", clip).item
    segments = predictor.cut(clip.samples, clip.sample_rate_hz)
    answers = [predictor.predict(part.samples, part.sample_rate_hz) for part in segments]
    worst = max(range(len(answers)), key=lambda index: answers[index].entropy)
    assert row.is_part == (len(segments) > 1)
    assert row.entropy == pytest.approx(answers[worst].entropy, abs=1e-4)
    assert row.answer == answers[worst].label
    assert (row.start_s, row.end_s) == (segments[worst].start_s, segments[worst].end_s)


def test_what_the_run_was_made_of_is_left_out(tiny_run, clips, tmp_path, found):
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    for path in tiny_run.iterdir():
        (folder.path / path.name).symlink_to(path)
    names = [row.file for row in found.rows]
    hashes = [read_clip(clips / name).content_sha256 for name in names]
    (folder.path / "clips.parquet").unlink(missing_ok=True)
    pq.write_table(pa.table({"content_sha256": hashes}), folder.path / "clips.parquet")
    assert known_sounds(folder) == set(hashes)
    again = suggest(folder.path, str(clips), 5, device="cpu")
    assert (again.known, again.answered) == (5, 15)
    assert not {row.file for row in again.rows} & set(names)


def test_a_run_that_does_not_say_what_it_was_made_of_knows_nothing(tmp_path):
    assert known_sounds(RunFolder(tmp_path)) == frozenset()


ROWS = (
    Suggestion("site1/a.wav", 0.0, 0.4, False, "whale", 0.4, 1.1, 3),
    Suggestion("site2/a.wav", 1.25, 2.25, True, "ship", 0.5, 1.0, 1),
)


def test_the_table_is_a_manifest_once_it_is_filled_in(tmp_path):
    for site in ("site1", "site2"):
        (tmp_path / site).mkdir()
        sf.write(tmp_path / site / "a.wav", np.zeros(24_000), 8000)
    (path,) = write_suggested(tmp_path / "out", ROWS)
    with path.open(newline="") as handle:
        table = list(csv.DictReader(handle))
    assert [row["label"] for row in table] == ["", ""]
    assert [row["answer"] for row in table] == ["whale", "ship"]
    filled = path.read_text().replace("site1/a.wav,,,,", "site1/a.wav,,,dog,")
    path.write_text(filled.replace("2.25,,", "2.25,cat,"))
    one, other = read_layout(tmp_path, path).entries
    assert (one.filepath, one.labels, one.start_s, one.end_s) == (
        "site1/a.wav",
        ("dog",),
        0.0,
        None,
    )
    assert (other.labels, other.start_s, other.end_s) == (("cat",), 1.25, 2.25)


def test_tables_of_raven_and_audacity_lie_as_the_recordings_do(tmp_path):
    paths = write_suggested(tmp_path, ROWS, formats=("raven", "audacity"), band_hz=(0.0, 4000.0))
    names = [path.relative_to(tmp_path).as_posix() for path in paths]
    assert names == [
        "suggested.csv",
        "site1/a.selections.txt",
        "site1/a.labels.txt",
        "site2/a.selections.txt",
        "site2/a.labels.txt",
    ]
    for path in paths[3:]:
        (one,) = read_annotations(path)
        assert (one.start_s, one.end_s, one.label) == (1.25, 2.25, "")


def test_recordings_of_a_store_have_tables_in_the_folder_too(tmp_path):
    row = Suggestion("s3://bucket/set/a.wav", 0.0, 0.4, False, "whale", 0.4, 1.1)
    paths = write_suggested(tmp_path, [row], formats=("audacity",))
    assert paths[1] == tmp_path / "bucket/set/a.labels.txt"
