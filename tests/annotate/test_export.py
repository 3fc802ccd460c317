"""Events -> files: every format holds the same events at the same samples."""

import json

import pyarrow.parquet as pq
import pytest

from xmoe.annotate.events import Event
from xmoe.annotate.export import SUFFIXES, event_rows, write_events
from xmoe.audio.annotations import read_annotations
from xmoe.audio.field_notes import FieldNotes

RATE_HZ = 44_100
SAMPLES = [(0, 4410), (12_345_678, 12_389_778), (317_519_999, 317_520_000)]


@pytest.fixture
def rows():
    events = [Event(a / RATE_HZ, b / RATE_HZ, "blue whale", 0.75, 0.9, 3) for a, b in SAMPLES]
    return event_rows(events, file="dir/long.wav", sample_rate_hz=RATE_HZ)


@pytest.fixture
def written(rows, tmp_path):
    return write_events(
        tmp_path, rows, stem="long", formats=tuple(SUFFIXES), band_hz=(20.0, 8000.0)
    )


def test_samples_are_exact(rows):
    assert [(row["start_sample"], row["end_sample"]) for row in rows] == SAMPLES


@pytest.mark.parametrize("kind", SUFFIXES)
def test_every_format_reads_back_to_the_sample(written, kind):
    if kind == "jsonl":
        found = [json.loads(line) for line in written[kind].read_text().splitlines()]
        found = [(row["start_s"], row["end_s"], row["label"]) for row in found]
    else:
        found = [one[:3] for one in read_annotations(written[kind])]
    assert [(round(a * RATE_HZ), round(b * RATE_HZ)) for a, b, _ in found] == SAMPLES
    assert {label for *_, label in found} == {"blue whale"}


def test_table_and_parquet_hold_the_same(written, rows):
    assert pq.read_table(written["parquet"]).to_pylist() == rows


def test_no_event_is_an_empty_file_with_a_header(tmp_path):
    files = write_events(tmp_path, [], stem="x", formats=tuple(SUFFIXES), band_hz=(0.0, 1.0))
    assert files["csv"].read_text().startswith("file,start_s,end_s,label")
    assert read_annotations(files["raven"]) == ()
    assert read_annotations(files["audacity"]) == ()
    assert pq.read_table(files["parquet"]).num_rows == 0


def test_raven_and_audacity_show_a_slow_file_as_it_is(tmp_path):
    rows = event_rows([Event(0.5, 0.75, "bat", 0.9, 0.95, 3)], file="a.wav", sample_rate_hz=480_000)
    files = write_events(
        tmp_path,
        rows,
        stem="a",
        formats=("csv", "raven", "audacity"),
        band_hz=(20_000.0, 120_000.0),
        time_expansion=10.0,
    )
    assert "0.5,0.75,bat" in files["csv"].read_text()
    assert files["audacity"].read_text() == "5.000000000\t7.500000000\tbat\n"
    cells = files["raven"].read_text().splitlines()[1].split("\t")
    assert cells[3:7] == ["5.000000000", "7.500000000", "2000.000", "12000.000"]


def test_events_have_a_time_of_day_where_the_recording_has(tmp_path):
    known = FieldNotes(recorded_at="2024-05-01T23:59:59+00:00", recorder="AudioMoth", latitude=1.5)
    event = Event(1.25, 2.0, "bat", 0.9, 0.95, 3)
    (row,) = event_rows([event], file="a.wav", sample_rate_hz=8000, field=known)
    assert row["clock_time"] == "2024-05-02T00:00:00.250+00:00"
    assert (row["recorder"], row["latitude"], row["longitude"]) == ("AudioMoth", 1.5, None)
    (bare,) = event_rows([event], file="a.wav", sample_rate_hz=8000)
    assert bare["clock_time"] is None
