"""One long recording, the same answers: by HTTP, by ``infer --hop``, in a batch and in Python."""

import csv

import pyarrow.parquet as pq
import pytest

from xmoe import MoEAudioClassifier
from xmoe.cli import main

HOP_S = 0.2  # of the run's training


@pytest.fixture
def recording(tmp_path, wav, sound):
    """The function that writes a recording whose length is no multiple of any hop; its path."""

    def write(rate_hz):
        path = tmp_path / "in" / "long.wav"
        path.parent.mkdir()
        path.write_bytes(wav(sound(1.9737), rate_hz))
        return path

    return write


@pytest.fixture(params=["tiny_run", "closed_run", "backbone_run"])
def run(request):
    """A run whose experts read the stem map, whose experts hear sound, or that asks a network."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def classify(ask, serve_run, run):
    """The function that answers a recording over HTTP."""

    def send(body, hop_s):
        service = serve_run(run=run, faults={"deadline_ms": 20_000.0})
        return ask(
            "POST", "/v1/classify", service=service, body=body, query=f"hop_s={hop_s}"
        ).json()

    return send


def run_command(*words):
    with pytest.raises(SystemExit) as left:
        main([str(word) for word in (*words, "-q")])
    assert left.value.code == 0


# The run listens at 8 kHz: one rate needs no resampling, the other does.
@pytest.mark.parametrize("rate_hz", [8000, 11_025])
def test_recording_is_answered_alike(recording, run, classify, tmp_path, rate_hz):
    path, out = recording(rate_hz), tmp_path / "out"
    served = classify(path.read_bytes(), HOP_S)
    here = MoEAudioClassifier.load(run).predict(path)
    run_command("infer", run, "--input", path.parent, "--output", out)
    (part,) = out.rglob("*.parquet")
    (row,) = pq.read_table(part).to_pylist()
    assert served["segments"] == here.segments == row["segments"] > 4
    assert served["k"] == here.k == row["k"]
    assert served["probabilities"] == pytest.approx(here.probabilities, abs=1e-6)
    for label, p in here.probabilities.items():
        assert row[f"p_{label}"] == pytest.approx(p, abs=1e-6)


@pytest.mark.parametrize("rate_hz", [8000, 11_025])
@pytest.mark.parametrize("hop_s", [HOP_S, 0.13])
def test_windows_and_events_are_alike(recording, run, classify, tmp_path, rate_hz, hop_s):
    path = recording(rate_hz)
    served = classify(path.read_bytes(), hop_s)
    run_command("infer", run, path, "--hop", hop_s, "--windows", "--out", tmp_path)
    table = pq.read_table(tmp_path / "long.windows.parquet").to_pylist()
    for window, row in zip(served["windows"], table, strict=True):
        for place in ("start_s", "end_s"):
            assert window[place] == pytest.approx(row[place], abs=1e-6)
        assert window["k"] == row["k"]
        assert window["probability"] == pytest.approx(row[f"p_{window['label']}"], abs=1e-6)
    written = list(csv.DictReader((tmp_path / "long.events.csv").read_text().splitlines()))
    assert len(written) > 0
    for event, row in zip(served["events"], written, strict=True):
        assert event["label"] == row["label"]
        for name in ("start_s", "end_s", "probability"):
            assert event[name] == pytest.approx(float(row[name]), abs=2e-6)


def test_a_window_is_a_recording_of_its_own(recording, run, classify, sound):
    served = classify(recording(11_025).read_bytes(), HOP_S)
    classifier, samples = MoEAudioClassifier.load(run), sound(1.9737)
    for window in served["windows"]:
        first, last = (round(window[place] * 11_025) for place in ("start_s", "end_s"))
        alone = classifier.predict(samples[first:last], 11_025)
        assert window["probability"] == pytest.approx(alone.probability, abs=1e-6)
