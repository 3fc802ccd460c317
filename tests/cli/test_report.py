"""``xmoe report`` passes its options on and says where the report is."""

import sys
from types import ModuleType

import pytest


@pytest.fixture
def calls(monkeypatch, classifier):
    """Put a reporter that only notes its arguments in the place of the real one."""
    seen = []

    def report_run(run, **settings):
        seen.append({"run": run, **settings})
        return settings["out"] or run / "report.html"

    module = ModuleType("xmoe.pipeline.reporting")
    module.report_run = report_run
    monkeypatch.setitem(sys.modules, "xmoe.pipeline.reporting", module)
    return seen


def test_the_report_is_in_the_run_folder(calls, run_json, tmp_path):
    code, fields = run_json("report", tmp_path)
    assert code == 0
    assert fields["report"] == str(tmp_path / "report.html")
    assert calls == [{"run": tmp_path, "dataset_dir": None, "metadata_csv": None, "out": None}]


def test_recordings_and_place_are_passed_on(calls, run_json, tmp_path):
    manifest = tmp_path / "m.csv"
    manifest.touch()
    out = tmp_path / "r.html"
    options = ("--dataset", tmp_path, "--metadata", manifest, "--out", out)
    code, fields = run_json("report", tmp_path, *options)
    assert (code, fields["report"]) == (0, str(out))
    assert calls[0]["dataset_dir"] == tmp_path
    assert calls[0]["metadata_csv"] == manifest


def test_a_manifest_without_its_folder_is_refused(calls, run_json, tmp_path):
    manifest = tmp_path / "m.csv"
    manifest.touch()
    code, fields = run_json("report", tmp_path, "--metadata", manifest)
    assert code == 2
    assert "--dataset" in fields["what"]
    assert calls == []
