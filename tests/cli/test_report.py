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


def test_two_runs_are_compared_and_nothing_is_written(calls, run_json, tmp_path, capsys):
    from tests.report.test_compare import write

    one, other = write(tmp_path, "one", [True] * 8), write(tmp_path, "other", [False] * 8)
    before = sorted(tmp_path.rglob("*"))
    code, fields = run_json("report", "--compare", one, other)
    assert (code, fields["figures"]["accuracy"]["difference"]) == (0, -1.0)
    assert fields["runs"] == ["one", "other"]
    assert sorted(tmp_path.rglob("*")) == before
    assert calls == []
    code, fields = run_json("report", "--compare", one, other, "--out", tmp_path / "r.html")
    assert (code, "no other option" in fields["what"]) == (2, True)


def test_people_see_both_runs_and_what_is_clear(tmp_path, capsys):
    from tests.report.test_compare import write
    from xmoe.cli import main

    one, other = write(tmp_path, "one", [True] * 8), write(tmp_path, "other", [False] * 8)
    with pytest.raises(SystemExit):
        main(["report", "--compare", str(one), str(other)])
    out = capsys.readouterr().out
    assert "-1.0000 to -1.0000" in out
    assert "clear" in out
    assert "right: 0 by both, 8 by one alone, 0 by other alone, 0 by neither" in out
