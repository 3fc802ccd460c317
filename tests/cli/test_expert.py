"""``xmoe expert`` and ``xmoe calibrate`` on a run in closed form."""

import json
import shutil

import pytest

from xmoe.cli import main
from xmoe.run.folder import RunFolder


@pytest.fixture
def run(closed_run, tmp_path):
    return shutil.copytree(closed_run, tmp_path / "run")


def call(capsys, *args):
    with pytest.raises(SystemExit) as left:
        main([*map(str, args), "-q"])
    return left.value.code, capsys.readouterr()


def test_the_list_tells_what_each_expert_sees_costs_and_adds(run, capsys):
    code, said = call(capsys, "expert", "list", run, "--json")
    assert code == 0
    rows = json.loads(said.out)["experts"]
    assert [row["expert"] for row in rows] == list(RunFolder(run).read_config().model.expert_names)
    for row in rows:
        assert row["kind"] == "kernels"
        assert row["ms"] > 0
        assert row["weight"] is not None
        assert 0.0 <= row["asked"] <= 1.0
    code, said = call(capsys, "expert", "list", run)
    assert rows[0]["expert"] in said.out


def test_a_budget_in_milliseconds_is_written_to_the_run(run, capsys):
    code, said = call(capsys, "calibrate", run, "--budget", "2ms", "--json")
    assert code == 0
    assert json.loads(said.out)["routing"]["budget"] == "2ms"
    assert RunFolder(run).read_config().routing.budget == "2ms"


def test_an_expert_goes_and_a_stranger_is_refused(run, capsys):
    name = RunFolder(run).read_config().model.expert_names[-1]
    code, _ = call(capsys, "expert", "remove", run, name)
    assert code == 0
    assert name not in RunFolder(run).read_config().model.expert_names
    code, said = call(capsys, "expert", "remove", run, name)
    assert code != 0
    assert name in said.err
