"""``xmoe expert`` and ``xmoe calibrate`` on a run in closed form."""

import json
import shutil

import numpy as np
import pytest
import soundfile as sf

from tests.fixtures.closed import COSTS_MS, RATE_HZ, make_scene
from xmoe.cli import main
from xmoe.pipeline.classifier import MoEAudioClassifier
from xmoe.predict.predictor import Predictor
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
    assert MoEAudioClassifier.load(run, device="cpu").budget == "2ms"


def test_what_the_budget_buys_is_said_once(run, capsys):
    with pytest.raises(SystemExit):
        main(["calibrate", str(run), "--budget", "2ms"])
    said = capsys.readouterr()
    line = RunFolder(run).read_config().routing.reasons["k"]
    assert (said.out + said.err).count(line) == 1


def test_an_expert_goes_and_a_stranger_is_refused(run, capsys):
    name = RunFolder(run).read_config().model.expert_names[-1]
    code, _ = call(capsys, "expert", "remove", run, name)
    assert code == 0
    assert name not in RunFolder(run).read_config().model.expert_names
    code, said = call(capsys, "expert", "remove", run, name)
    assert code != 0
    assert name in said.err


@pytest.fixture
def asking(backbone_run, tmp_path):
    return shutil.copytree(backbone_run, tmp_path / "run")


def test_the_list_says_whose_a_network_is(asking, capsys):
    _, said = call(capsys, "expert", "list", asking, "--json")
    row = json.loads(said.out)["experts"][1]
    assert (row["expert"], row["kind"], row["front end"]) == ("tiny", "backbone", None)
    assert (row["licence"], row["source"]) == ("CC BY-NC 4.0", "a test")
    _, said = call(capsys, "expert", "list", asking)
    assert "tiny: tiny, CC BY-NC 4.0: NOT FOR COMMERCIAL USE  (a test)" in said.out


def test_a_network_is_calibrated_and_taken_out_like_any_expert(asking, capsys):
    code, said = call(capsys, "calibrate", asking, "--json")
    assert code == 0
    costs = json.loads(said.out)["routing"]["costs_ms"]
    assert len(costs) == 2
    assert 0.0 < costs[1] < 8.0  # what was said of it at training
    code, _ = call(capsys, "expert", "remove", asking, "tiny")
    assert code == 0
    config = RunFolder(asking).read_config()
    assert config.model.expert_names == ("low",)
    assert len(config.routing.costs_ms) == 1
    assert Predictor.load(asking).predict(np.zeros(4000, np.float32), 8000).k <= 1.0


@pytest.mark.usefixtures("few_families")
def test_an_expert_comes_back_from_a_file_of_its_spec(run, scenes, tmp_path, capsys):
    spec = RunFolder(run).read_config().model.experts[-1]
    (tmp_path / "spec.json").write_text(spec.model_dump_json())
    add = ("expert", "add", run, tmp_path / "spec.json", "--dataset", scenes)
    code, said = call(capsys, *add)
    assert code != 0
    assert "already" in said.err
    call(capsys, "expert", "remove", run, spec.name)
    code, said = call(capsys, *add, "--json")
    assert code == 0
    (added,) = json.loads(said.out)["tried"]
    assert added["name"] == spec.name
    assert added["ms"] == COSTS_MS[spec.name]
    assert spec.name in RunFolder(run).read_config().model.expert_names


@pytest.mark.usefixtures("few_families")
def test_recordings_are_added_and_counted(run, tmp_path, capsys):
    more = tmp_path / "more"
    names = RunFolder(run).read_config().classes
    for kind, name in enumerate(names):
        (more / name).mkdir(parents=True)
        sf.write(more / name / "new.wav", make_scene(kind, 90 + kind), RATE_HZ, subtype="PCM_16")
    code, said = call(capsys, "update", run, "--dataset", more, "--json")
    assert code == 0
    reply = json.loads(said.out)
    assert (reply["added"], reply["known"]) == (len(names), 0)
    code, said = call(capsys, "update", run, "--dataset", more)
    assert code != 0
    assert "nothing is new" in said.err
