"""Recordings and annotation files are brought together, or the one that does not fit is named."""

import numpy as np
import pytest
import soundfile as sf

from xmoe.audio.annotated import read_annotated
from xmoe.audio.annotations import Annotation, format_audacity, format_raven
from xmoe.base.errors import AudioError, DatasetError

RAVEN = "Selection\tBegin Time (s)\tEnd Time (s)\tBegin File\tFile Offset (s)\tAnnotation\n"
SPANS = (Annotation(1.0, 2.0, "whale"), Annotation(3.0, 3.5, "ship"))


@pytest.fixture
def add(tmp_path):
    """Return a function that writes a recording of 5 s, or text, into the folder."""

    def write(name, text=None):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        if text is None:
            sf.write(path, np.full(5000 * 4, 0.1, np.float32), 4000)
        else:
            path.write_text(text)
        return path

    return write


def labels(recording):
    return [one[:3] for one in recording.annotations]


@pytest.mark.parametrize("name", ["a.txt", "a.Table.1.selections.txt", "deep/a.labels.txt"])
def test_a_table_is_of_the_recording_that_it_is_named_after(add, tmp_path, name):
    add("a.wav")
    add("b/a.b.wav")
    add(name, format_audacity(SPANS))
    add("a.b.txt", "")
    first, second = read_annotated(tmp_path).recordings
    assert (first.name, labels(first)) == ("a", [one[:3] for one in SPANS])
    assert (second.name, labels(second)) == ("b/a.b", [])


def test_one_raven_table_of_several_recordings_counts_from_the_start_of_each(add, tmp_path):
    add("a.wav")
    add("b.wav")
    rows = "1\t1.0\t2.0\ta.wav\t1.0\twhale\n2\t8.0\t8.5\tb.wav\t3.0\tship\n"
    add("a.Table.1.selections.txt", RAVEN + rows)
    first, second = read_annotated(tmp_path).recordings
    assert labels(first) == [(1.0, 2.0, "whale")]
    assert labels(second) == [(3.0, 3.5, "ship")]


def test_a_table_with_a_column_of_paths_is_of_those_recordings(add, tmp_path):
    add("one/a.wav")
    add("two/a.wav")
    add("all.csv", "filepath,start_s,end_s,label\ntwo/a.wav,0,1,whale\none/a.wav,1,2,ship\n")
    first, second = read_annotated(tmp_path).recordings
    assert labels(first) == [(1.0, 2.0, "ship")]
    assert labels(second) == [(0.0, 1.0, "whale")]


def test_the_same_events_in_two_formats_are_taken_once(add, tmp_path):
    add("a.wav")
    add("a.labels.txt", format_audacity(SPANS))
    add("a.selections.txt", format_raven(SPANS, band_hz=(0, 1), file_name="a.wav"))
    assert labels(read_annotated(tmp_path).recordings[0]) == [one[:3] for one in SPANS]


def test_what_is_left_out_is_said(add, tmp_path):
    for name in ("a.wav", "b.wav", ".hidden.wav"):
        add(name)
    add("a.events.csv", "start_s,end_s,label\n")
    add("README.txt", "Recorded in May.\n")
    found = read_annotated(tmp_path)
    assert [one.name for one in found.recordings] == ["a"]
    assert found.notes == (
        "left out: README.txt belongs to no recording",
        "left out, without an annotation file: b.wav (1)",
    )


@pytest.mark.parametrize(
    ("files", "what"),
    [
        ({}, "no recordings were found"),
        ({"a.wav": None}, "no recording has annotations"),
        ({"a.wav": None, "b.txt": "0\t1\tx\n"}, r"b\.txt.*belongs to no recording"),
        ({"a.wav": None, "a.txt": "0\t9\tx\n"}, r"a\.txt, at 0 s.*ends at 9 s.*5\.000 s long"),
        ({"a.wav": None, "a.txt": "2\t3\t\n"}, r"a\.txt, at 2 s.*no label"),
        ({"a.wav": None, "a.txt": "2\t3\tx;y\n"}, "semicolon"),
        ({"a.wav": None, "a.txt": "2\tx\n"}, r"a\.txt line 1"),
        ({"a.wav": None, "a.flac": None}, "several recordings are named a"),
        ({"x/a.wav": None, "y/a.wav": None, "a.txt": "0\t1\tx\n"}, "fits several recordings"),
        (
            {"a.wav": None, "a.txt": RAVEN + "1\t1\t2\tz.wav\t1\tx\n"},
            r"a\.txt, at 1 s.*names z\.wav, which is not in the folder",
        ),
        (
            {
                "a.wav": None,
                "a.txt": "Begin Time (s)\tEnd Time (s)\tBegin File\tLabel\n"
                "0\t1\ta.wav\tx\n0\t1\tb.wav\tx\n",
            },
            "no column 'File Offset",
        ),
    ],
)
def test_flaws_are_named(add, tmp_path, files, what):
    for name, text in files.items():
        add(name, text)
    with pytest.raises(DatasetError, match=what):
        read_annotated(tmp_path)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DatasetError, match="no such folder"):
        read_annotated(tmp_path / "none")


def test_a_recording_that_cannot_be_read_is_named(add, tmp_path):
    add("a.wav", "no sound")
    add("a.txt", "")
    with pytest.raises(AudioError, match=r"a\.wav"):
        read_annotated(tmp_path)
