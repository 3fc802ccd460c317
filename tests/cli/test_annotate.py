"""``xmoe infer --hop``: files in the formats asked for, figures against truth, clear refusals."""

import csv
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from tests.fixtures.runs import tiny_config, write_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder with random weights."""
    config = tiny_config(("noise", "whale"), experts=("low",), masked_experts=(), k_max=1)
    return write_run(tmp_path_factory.mktemp("annotate") / "run", config)


@pytest.fixture
def recording(tmp_path):
    path = tmp_path / "long.wav"
    sf.write(path, np.random.default_rng(0).normal(0, 0.1, 30_000).astype(np.float32), 8000)
    return path


def test_events_are_written_in_every_format(run, recording, run_json, tmp_path):
    out = tmp_path / "out"
    code, fields = run_json(
        "infer", run, recording, "--hop", "0.4", "--threshold", "0.01", "--out", out,
        "--format", "all", "--windows",
    )  # fmt: skip
    assert code == 0
    (row,) = fields["recordings"]
    assert (row["windows"], row["events"], row["background"]) == (10, 1, ["noise"])
    assert row["thresholds"] == {"noise": 0.01, "whale": 0.01}
    assert row["notes"] == []
    names = {path.name for path in out.iterdir()}
    assert names == {
        "long.events.csv", "long.events.jsonl", "long.events.parquet", "long.selections.txt",
        "long.labels.txt", "long.windows.parquet", "long.png", "long.recording.json",
    }  # fmt: skip
    (event,) = csv.DictReader((out / "long.events.csv").read_text().splitlines())
    assert (event["start_sample"], event["end_sample"]) == ("0", "30000")


def test_csv_alone_goes_into_the_run_folder(run, recording, run_json):
    code, fields = run_json("infer", run, recording, "--hop", "0.2", "--no-picture")
    assert code == 0
    assert list(fields["recordings"][0]["files"]) == ["csv"]
    assert (run / "annotations" / "long.events.csv").is_file()


def test_figures_against_known_events(run, recording, run_json, tmp_path):
    truth = tmp_path / "truth.csv"
    truth.write_text("start_s,end_s,label\n0,3.75,whale\n1,2,noise\n")
    code, fields = run_json(
        "infer", run, recording, "--hop", "0.4", "--threshold", "0.01", "--truth", truth
    )
    assert code == 0
    scores = fields["recordings"][0]["scores"]
    assert scores["overlap"]["f1"] == scores["onset"]["f1"] == 1.0
    assert scores["overlap"]["there"] == 1


def test_a_bad_recording_costs_only_itself(run, recording, run_json, tmp_path):
    code, fields = run_json("infer", run, tmp_path / "no.wav", recording, "--hop", "0.4")
    assert code == 2
    assert fields["failed"] == 1
    bad, good = fields["recordings"]
    assert bad["code"] == "missing"
    assert good["windows"] == 10


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (["--threshold", "0.5"], "--threshold: give --hop too"),
        (["--wake", "0.05"], "--wake: give --hop too"),
        (["--hop", "0.4", "--wake", "0.05"], "no pretrained network is among the experts"),
        (["--hop", "0.4", "--workers", "2"], "--workers: give --input too"),
        (["--hop", "0.4", "--out", "s3://bucket/x"], "is an address"),
        (["--hop", "0.4", "--background", "car"], "no class is named car"),
        (["--hop", "0"], "--hop"),
        (["--hop", "0.00001"], "less than one sample"),
        (["--hop", "0.4", "--format", "xls"], "--format"),
    ],
)
def test_wrong_options_are_refused(run, recording, run_json, options, what):
    code, fields = run_json("infer", run, recording, *options)
    assert code == 2
    assert what in fields["what"]


def test_recordings_of_one_name_keep_their_events(run, recording, run_json, tmp_path):
    other = tmp_path / "b" / "long.wav"
    other.parent.mkdir()
    other.write_bytes(recording.read_bytes())
    for files in ((recording, other), (other,), (recording,)):
        code, fields = run_json(
            "infer", run, *files, "--hop", "1", "--no-picture", "--out", tmp_path / "out"
        )
        assert code == 0
        names = [Path(row["files"]["csv"]).name for row in fields["recordings"]]
        assert names == [
            "long.events.csv" if file == recording else "b_long.events.csv" for file in files
        ]


def test_truth_is_of_one_recording(run, run_json, tmp_path):
    truth = tmp_path / "t.csv"
    truth.write_text("start_s,end_s,label\n")
    code, fields = run_json("infer", run, "a.wav", "b.wav", "--hop", "1", "--truth", truth)
    assert code == 2
    assert "one recording" in fields["what"]


def test_people_see_counts_notes_and_files(run, recording, tmp_path, capsys):
    from xmoe.cli import main

    with pytest.raises(SystemExit) as left:
        main(["infer", str(run), str(recording), "--hop", "0.5", "-q", "--out", str(tmp_path)])
    assert left.value.code == 0
    shown = capsys.readouterr().out
    assert "no event: noise" in shown
    assert "note: the hop is longer than a window" in shown
    assert "long.events.csv" in shown


def test_one_channel_of_a_slow_file(run, run_json, tmp_path):
    path = tmp_path / "bat.wav"
    noise = np.random.default_rng(0).normal(0, 0.1, 30_000)
    sf.write(path, np.stack([0 * noise, noise], 1), 8000)
    options = ("--hop", "0.1", "--out", tmp_path / "out", "--time-expansion", 5)
    _, fields = run_json("infer", run, path, *options, "--channel", 2)
    (row,) = fields["recordings"]
    assert (row["duration_s"], row["sample_rate_hz"]) == (0.75, 40_000)
    assert row["warnings"] == []
    _, fields = run_json("infer", run, path, *options, "--channel", 1)
    assert fields["recordings"][0]["warnings"][0].startswith("silent")
