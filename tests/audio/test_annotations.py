"""Raven, Audacity and plain tables: read as written, exact to a sample, flaws named by line."""

import sys

import crowsetta
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xmoe.audio.annotations import (
    Annotation,
    format_audacity,
    format_raven,
    format_time,
    read_annotations,
)
from xmoe.base.errors import DatasetError

SPANS = (Annotation(0.5, 1.25, "blue whale", 0.75), Annotation(7200.0000003, 7201.5, "ship"))


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


@given(st.integers(0, 384_000 * 86_400 * 7), st.sampled_from([4000, 44_100, 96_000, 384_000]))
def test_a_sample_is_the_same_sample_again(sample, rate_hz):
    assert round(float(format_time(sample / rate_hz)) * rate_hz) == sample


def test_raven_comes_back(tmp_path):
    path = write(tmp_path / "a.txt", format_raven(SPANS, band_hz=(20, 8000), file_name="a.wav"))
    assert read_annotations(path) == tuple(one._replace(file="a.wav") for one in SPANS)


def test_audacity_comes_back(tmp_path):
    path = write(tmp_path / "a.txt", format_audacity(SPANS))
    assert [one[:3] for one in read_annotations(path)] == [one[:3] for one in SPANS]


@pytest.mark.filterwarnings("ignore:The inplace keyword")  # crowsetta's own use of pandas
def test_crowsetta_reads_what_is_written_for_raven(tmp_path):
    path = write(tmp_path / "a.txt", format_raven(SPANS, band_hz=(20, 8000)))
    boxes = crowsetta.formats.bbox.Raven.from_file(path).to_bbox()
    assert [(box.onset, box.offset, box.label) for box in boxes] == [one[:3] for one in SPANS]
    assert {(box.low_freq, box.high_freq) for box in boxes} == {(20.0, 8000.0)}


def test_crowsetta_reads_what_is_written_for_audacity(tmp_path):
    path = write(tmp_path / "a.txt", format_audacity(SPANS))
    found = crowsetta.formats.seq.AudSeq.from_file(path)
    np.testing.assert_array_equal(found.start_times, [one.start_s for one in SPANS])
    np.testing.assert_array_equal(found.end_times, [one.end_s for one in SPANS])
    assert list(found.labels) == [one.label for one in SPANS]


def test_a_selection_in_two_views_is_one(tmp_path):
    lines = [
        "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tSpecies",
        "1\tWaveform 1\t1\t1,5\t2,5\t0\tMinke",
        "1\tSpectrogram 1\t1\t1,5\t2,5\t100\tMinke",
        "2\tSpectrogram 1\t1\t4\t5\t100\t",
    ]
    path = write(tmp_path / "raven.txt", "\r\n".join(lines) + "\r\n")
    assert read_annotations(path) == (Annotation(1.5, 2.5, "Minke"), Annotation(4.0, 5.0, ""))


def test_selection_numbers_that_begin_again_lose_nothing(tmp_path):
    head = "Selection\tView\tBegin Time (s)\tEnd Time (s)\tAnnotation"
    rows = [
        (i % 5 + 1, view, i, i + 1) for i in range(10) for view in ("Waveform 1", "Spectrogram 1")
    ]
    lines = [head, *("\t".join([*map(str, row), "call"]) for row in rows)]
    found = read_annotations(write(tmp_path / "raven.txt", "\n".join(lines) + "\n"))
    assert [one.start_s for one in found] == list(range(10))


def test_frequencies_and_blank_lines_of_audacity_are_passed_over(tmp_path):
    path = write(tmp_path / "labels.txt", "1.0\t2.0\ta b\n\\\t100.0\t900.0\n\n3.0\t3.0\n")
    assert read_annotations(path) == (Annotation(1.0, 2.0, "a b"), Annotation(3.0, 3.0, ""))


def test_a_plain_table_is_read(tmp_path):
    path = write(tmp_path / "a.csv", "start_s,end_s,label,probability\n0.5,1.5,x,0.25\n")
    assert read_annotations(path) == (Annotation(0.5, 1.5, "x", 0.25),)


def test_raven_counts_from_the_start_of_the_file_where_it_says_so(tmp_path):
    names = "Selection\tBegin Time (s)\tEnd Time (s)\tBegin File\tFile Offset (s)\tLabel\n"
    path = write(tmp_path / "a.txt", names + "1\t7.0\t8.5\tb.wav\t2.0\tx\n")
    assert read_annotations(path) == (Annotation(2.0, 3.5, "x", None, "b.wav"),)


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.txt"])
def test_a_table_may_hold_no_annotation(tmp_path, name):
    text = "start_s,end_s,label\n" if name == "a.csv" else ""
    assert read_annotations(write(tmp_path / name, text)) == ()


TEXTGRID = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 5
tiers? <exists>
size = 1
item []:
    item [1]:
        class = "IntervalTier"
        name = "calls"
        xmin = 0
        xmax = 5
        intervals: size = 3
        intervals [1]:
            xmin = 0
            xmax = 1.0000125
            text = ""
        intervals [2]:
            xmin = 1.0000125
            xmax = 2.5
            text = "whale"
        intervals [3]:
            xmin = 2.5
            xmax = 5
            text = ""
"""


def test_intervals_of_a_textgrid_that_have_a_label_are_read(tmp_path):
    path = write(tmp_path / "a.TextGrid", TEXTGRID)
    assert read_annotations(path) == (Annotation(1.0000125, 2.5, "whale"),)
    with pytest.raises(DatasetError, match="is not a TextGrid"):
        read_annotations(write(tmp_path / "b.TextGrid", "File type"))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be", "cp1252"])
@pytest.mark.parametrize("name", ["a.TextGrid", "a.txt", "a.csv", "raven.txt"])
def test_every_kind_is_read_in_every_encoding(tmp_path, name, encoding):
    text = {
        "a.TextGrid": TEXTGRID.replace("whale", "w\u00e4l").replace("1.0000125", "1.5"),
        "a.txt": "1,5\t2,5\tw\u00e4l\r\n",
        "a.csv": 'Start (s);End (s);Common name\r\n1,5;2,5;"w\u00e4l"\r\n',
        "raven.txt": "Begin Time (s)\tEnd Time (s)\tSpecies\r1.5\t2.5\tw\u00e4l\r",
    }[name]
    (tmp_path / name).write_bytes(text.encode(encoding))
    assert read_annotations(tmp_path / name) == (Annotation(1.5, 2.5, "w\u00e4l"),)


@pytest.mark.parametrize(
    ("header", "row", "file"),
    [
        (
            "Start (s),End (s),Scientific name,Common name,Confidence,File",
            "1,4,S s,R,0.5,/d/a.wav",
            "/d/a.wav",
        ),
        (
            "filepath,start,end,scientific_name,common_name,confidence",
            "a.wav,1,4,S s,R,0.5",
            "a.wav",
        ),
        ("file,start_time,end_time,label,Score", "a.wav,1,4,R,0.5", "a.wav"),
        ("filename\tonset\toffset\tevent_label\tprobability", "a.wav\t1\t4\tR\t0.5", "a.wav"),
        ("Begin Time (s),End Time (s),Annotation,Score,Begin File", "1,4,R,0.5,a.wav", "a.wav"),
        (
            "Begin Time (s)\tEnd Time (s)\tCommon Name\tConfidence\tBegin Path\tFile Offset (s)",
            "46\t49\tR\t0.5\tC:\\d\\a.wav\t1",
            "C:\\d\\a.wav",
        ),
        (
            "Begin Time (s)\tEnd Time (s)\tBegin File\tBegin Path\tSpecies\tScore",
            "1\t4\ta.wav\t/d/site\tR\t0.5",
            "/d/site/a.wav",
        ),
        (
            '"Begin Time (s)"\t"End Time (s)"\t"Begin File"\t"Species"\t"Score"',
            '1\t4\t"a.wav"\t"R"\tNA\n',
            "a.wav",
        ),
    ],
)
def test_tables_of_other_programs(tmp_path, header, row, file):
    for name in ("a.csv", "a.txt"):
        (found,) = read_annotations(write(tmp_path / name, f"{header}\n{row}\n"))
        assert found == Annotation(1.0, 4.0, "R", None if "NA" in row else 0.5, file)


def test_one_selection_number_in_two_files_is_two(tmp_path):
    names = "Selection\tView\tBegin Time (s)\tEnd Time (s)\tLabel\tBegin Path\tFile Offset (s)\n"
    rows = "".join(f"1\t{view}\t2\t3\tx\t{site}/a.wav\t2\n" for view in "12" for site in "ab")
    found = read_annotations(write(tmp_path / "all.txt", names + rows))
    assert [one.file for one in found] == ["a/a.wav", "b/a.wav"]


def test_without_crowsetta_a_textgrid_is_refused_with_a_mend(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "crowsetta.formats.seq", None)
    with pytest.raises(DatasetError, match="not installed") as caught:
        read_annotations(write(tmp_path / "a.TextGrid", TEXTGRID))
    assert "pip install 'xmoe[annotations]'" in (caught.value.mend or "")


def test_the_column_of_labels_may_be_named(tmp_path):
    path = write(tmp_path / "a.txt", "Begin Time (s)\tEnd Time (s)\tKind\n0\t1\tx\n")
    assert read_annotations(path, label_column="Kind")[0].label == "x"
    with pytest.raises(DatasetError, match=r"no column 'Annotation'.*Kind"):
        read_annotations(path)
    with pytest.raises(DatasetError, match="no column 'Other'"):
        read_annotations(path, label_column="Other")


@pytest.mark.parametrize(
    ("name", "text", "what"),
    [
        ("a.txt", "one line of prose\n", "line 1.*neither"),
        ("a.txt", "1.0\t2.0\tx\n3.0\tend\tx\n", "line 2.*'end'"),
        ("a.txt", "2.0\t1.0\tx\n", "line 1.*rising"),
        ("a.txt", "Begin Time (s)\tEnd Time (s)\tAnnotation\nnan\t1\tx\n", "line 2.*rising"),
        ("a.csv", "start_s,label\n1,x\n", "no column 'end_s'"),
        ("a.csv", "start_s,end_s,label\n1,inf,x\n", "line 2.*rising"),
    ],
)
def test_flaws_are_named(tmp_path, name, text, what):
    with pytest.raises(DatasetError, match=what):
        read_annotations(write(tmp_path / name, text))


def test_files_that_are_no_text_are_named(tmp_path):
    path = tmp_path / "a.txt"
    with pytest.raises(DatasetError, match="no such file"):
        read_annotations(path)
    path.write_bytes(b"\xff\xfe1\t2\tx")
    with pytest.raises(DatasetError, match="UTF-16"):
        read_annotations(path)


def test_tabs_and_breaks_in_labels_do_not_break_the_tables(tmp_path):
    odd = (Annotation(0.0, 1.0, "a\tb\nc"),)
    for text in (format_audacity(odd), format_raven(odd, band_hz=(0, 1))):
        assert read_annotations(write(tmp_path / "odd.txt", text))[0].label == "a b c"


KALEIDOSCOPE = (
    "INDIR,FOLDER,IN FILE,CHANNEL,OFFSET,DURATION,Fmin,Fmax,DATE,TIME,TOP1MATCH,MANUAL ID"
)


def test_a_table_of_kaleidoscope_has_starts_and_durations(tmp_path):
    rows = (
        r"D:\\survey,site_a,20240501_053000.wav,0,12.5,1.25,2000,4000,2024-05-01,05:30:12,C1,wren",
        r"D:\\survey,,20240501_053000.wav,0,0,0.5,2000,4000,2024-05-01,05:30:00,C1,robin",
    )
    path = write(tmp_path / "cluster.csv", "\n".join((KALEIDOSCOPE, *rows)))
    assert read_annotations(path) == (
        Annotation(12.5, 13.75, "wren", None, "site_a/20240501_053000.wav"),
        Annotation(0.0, 0.5, "robin", None, "20240501_053000.wav"),
    )


def test_where_nobody_named_anything_the_program_did(tmp_path):
    row = "D:,,a.wav,0,1,2,2000,4000,2024-05-01,05:30:12,wren,"
    path = write(tmp_path / "cluster.csv", f"{KALEIDOSCOPE}\n{row}")
    assert [one.label for one in read_annotations(path)] == ["wren"]


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("start,duration,label", "1,3,R"),
        ("onset;duration_s;label", "1,0;3,0;R"),
        ("Begin Time (s)\tDelta Time (s)\tSpecies", "1\t3\tR"),
        ("start_s,end_s,label", "0:01,00:00:04.000,R"),
        ("start,duration,label", "0:00:01.0,0:03,R"),
        ("onset,offset,duration,label", "1,4,99,R"),
    ],
)
def test_durations_and_clock_times_are_times_too(tmp_path, header, row):
    path = write(tmp_path / ("a.txt" if "\t" in row else "a.csv"), f"{header}\n{row}\n")
    assert read_annotations(path) == (Annotation(1.0, 4.0, "R"),)


def test_labels_of_audacity_may_have_clock_times(tmp_path):
    path = write(tmp_path / "a.txt", "1:00:00.5\t1:00:01,25\twren\n")
    assert read_annotations(path) == (Annotation(3600.5, 3601.25, "wren"),)


def test_a_duration_that_is_none_is_named_as_one(tmp_path):
    path = write(tmp_path / "a.csv", "start,duration,label\n1,long,R\n")
    with pytest.raises(DatasetError, match="time '1' and the duration 'long'"):
        read_annotations(path)
