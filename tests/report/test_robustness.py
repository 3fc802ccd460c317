"""The part on robustness: there where it was measured, with every figure in a table."""

import json
import shutil

import pytest

from xmoe.report import report
from xmoe.report.records import RunRecords
from xmoe.report.robustness import describe_robustness

POINT = {
    "level": 10.0,
    "accuracy": 0.75,
    "accuracy_ci": [0.7, 0.8],
    "loss": 0.15,
    "loss_ci": [0.1, 0.2],
    "mean_k": 1.25,
}
RECORD = {
    "num_clips": 40,
    "num_clips_of_split": 60,
    "split": "test",
    "clean": {**POINT, "accuracy": 0.9},
    "harms": [
        {"name": "white_noise", "title": "White noise", "unit": "dB SNR", "points": [POINT]},
        {"name": "vorbis", "title": "Vorbis", "unit": "", "points": [], "absent": "too <fast>"},
    ],
}


@pytest.fixture
def measured(run, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "PARTS", {})  # the other parts have their own tests
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    (copy / "robustness.json").write_text(json.dumps(RECORD))
    return copy


def test_figures_and_what_is_absent_are_said(measured):
    text = describe_robustness(RunRecords(measured))
    assert "90.0% right on 40 clean clips" in text
    assert "75.0 %" in text
    assert "70.0 to 80.0" in text
    assert "+15.0 (10.0 to 20.0)" in text
    assert "Vorbis was left out: too &lt;fast&gt;." in text


def test_the_part_is_there_only_where_it_was_measured(run, measured):
    assert 'id="robustness"' not in report.render_report(run)
    text = report.render_report(measured)
    assert 'id="robustness"' in text
    assert "This part is absent" not in text


def test_a_torn_record_costs_only_its_part(measured):
    (measured / "robustness.json").write_text("{")
    assert "This part is absent" in report.render_report(measured)
