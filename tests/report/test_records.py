"""Records are read when they are asked for; what is torn is named."""

import shutil

import pytest
import torch

from xmoe.base.errors import RunFolderError
from xmoe.report.records import RunRecords
from xmoe.report.report import render_report
from xmoe.run.folder import RunFile, RunFolder


def test_reads_what_a_run_folder_holds(records):
    assert records.name == "run"
    assert len(records.history) == 3
    assert records.quarantine[0]["code"] == "empty"
    assert len(records.traces) == 8
    assert set(records.traces[0]) >= {"clip_id", "k", "answer"}
    assert all(row["clip_id"] in records.clips for row in records.traces)


@pytest.mark.parametrize(
    ("name", "part"),
    [("metrics.json", "metrics"), ("traces.parquet", "traces"), ("quarantine.csv", "quarantine")],
)
@pytest.mark.parametrize("data", [None, b"\xff[1, 2"], ids=["missing", "torn"])
def test_a_record_that_cannot_be_read_is_named(run, tmp_path, name, part, data):
    copy = shutil.copytree(run, tmp_path / "run")
    (copy / name).unlink() if data is None else (copy / name).write_bytes(data)
    with pytest.raises(RunFolderError, match=name):
        getattr(RunRecords(copy), part)


def test_a_list_is_no_record(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "run")
    (copy / "metrics.json").write_text("[]")
    with pytest.raises(RunFolderError, match="not a JSON object"):
        _ = RunRecords(copy).metrics


def test_figures_of_a_former_mixture_say_so(run, tmp_path):
    copy = RunFolder(shutil.copytree(run, tmp_path / "run"))
    assert RunRecords(copy.path).outdated == ""
    parts = {"stem": {"x": torch.ones(1)}}
    copy.save_checkpoint("closed", parts, {}, which=("best", "last"))
    metrics = RunRecords(copy.path).metrics | {"mixture": copy.fingerprint()}
    copy.write_record(RunFile.METRICS, metrics)
    assert RunRecords(copy.path).outdated == ""
    copy.save_checkpoint("closed", {"stem": {"x": torch.zeros(1)}}, {}, which=("best", "last"))
    told = "has changed since its figures on test were measured"
    assert told in RunRecords(copy.path).outdated
    assert told in render_report(copy.path)
    assert ".. run" not in render_report(copy.path)
