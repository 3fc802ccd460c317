"""Recordings and annotation files are brought together, or the one that does not fit is named."""

import unicodedata

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


@pytest.mark.parametrize("before", ["", "/data/set/", "D:\\set\\", "./"])
def test_equal_names_are_told_apart_by_the_folders_beside_them(add, tmp_path, before):
    names = ("S\u00fcd/a.wav", "nord/a.wav")
    for name in names:
        add(unicodedata.normalize("NFD", name))
    head = "Selection\tBegin Time (s)\tEnd Time (s)\tCommon Name\tBegin Path\tFile Offset (s)\n"
    rows = [f"1\t{at}\t{at + 1}\tx\t{before}{name}\t{at}\n" for at, name in enumerate(names)]
    table = add("BirdNET_SelectionTable.txt", "")
    table.write_bytes((head + "".join(rows)).replace("/", "\\").encode("utf-16"))
    found = read_annotated(tmp_path).recordings
    assert {one.path.parent.name[0]: labels(one)[0][0] for one in found} == {"S": 0.0, "n": 1.0}


def test_a_folder_may_stand_in_a_column_or_be_that_of_the_table(add, tmp_path):
    add("one/a.wav")
    add("two/a.wav")
    add("all.csv", "folder,file,start_s,end_s,label\ntwo,a.wav,0,1,x\none\\,a.wav,1,2,y\n")
    add("one/more.csv", "file,start_s,end_s,label\na.wav,2,3,z\n")
    first, second = read_annotated(tmp_path).recordings
    assert labels(first) == [(1.0, 2.0, "y"), (2.0, 3.0, "z")]
    assert labels(second) == [(0.0, 1.0, "x")]


def test_a_path_that_fits_nearly_is_not_taken_where_its_neighbour_fits_better(add, tmp_path):
    add("one/a.wav")
    table = add("all.csv", "file,start_s,end_s,label\n/x/two/a.wav,0,1,x\n")
    assert len(read_annotated(tmp_path).recordings) == 1  # the folder has another name here
    table.write_text(table.read_text() + "/x/one/a.wav,1,2,x\na.wav,2,3,x\n")
    with pytest.raises(DatasetError, match=r"names /x/two/a\.wav, which is not in the folder"):
        read_annotated(tmp_path)


def test_a_table_is_known_by_a_name_in_another_unicode_form(add, tmp_path):
    add("u\u0308.wav")
    add("\u00fc.txt", "0,5\t1,5\tx\n")
    assert labels(read_annotated(tmp_path).recordings[0]) == [(0.5, 1.5, "x")]


def test_tables_of_no_recording_are_known_in_any_dress(add, tmp_path):
    add("A.WAV")
    add("all.csv", "sep=;\nfile;onset;offset;event_label\na.wav;0,5;1;x\n")
    add("more.jsonl", '{"file_name": "a.wav", "start_s": 2, "end_s": 3, "label": "x"}\n')
    add("odd.txt", "").write_bytes(
        "file\tstart_s\tend_s\tlabel\na.wav\t3\t4\t\xe9\n".encode("cp1252")
    )
    add("notes.jsonl", "no json")
    found = read_annotated(tmp_path)
    assert labels(found.recordings[0]) == [(0.5, 1.0, "x"), (2.0, 3.0, "x"), (3.0, 4.0, "\xe9")]
    assert found.notes[0] == "left out: notes.jsonl belongs to no recording"
    assert found.notes[1].startswith("odd.txt is not UTF-8")


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
