"""A run routed anew: another budget, one expert less, and nothing else changed."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from xmoe.base.errors import ConfigError, RunFolderError
from xmoe.pipeline.recalibrate import recalibrate
from xmoe.predict.predictor import Predictor
from xmoe.run.folder import RunFile, RunFolder

RATE_HZ = 8000


@pytest.fixture
def run(closed_run, tmp_path):
    return shutil.copytree(closed_run, tmp_path / "run")


def sound():
    return (0.1 * np.random.default_rng(0).standard_normal(3000)).astype(np.float32)


def weights_of(run, name):
    folder = RunFolder(run).checkpoint_folder("best")
    return (folder / f"{name}.safetensors").read_bytes()


def test_another_budget_changes_whom_it_asks_and_no_expert(run, closed_run):
    names = Predictor.load(run).config.model.expert_names
    settled = recalibrate(run, budget=0.0)
    config = RunFolder(run).read_config()
    assert config.routing.budget == 0.0
    assert config.routing == settled.routing
    assert Predictor.load(run).predict(sound(), RATE_HZ).k == 0.0
    for part in ("stem", *(f"expert-{name}" for name in names)):
        assert weights_of(run, part) == weights_of(closed_run, part)
    record = json.loads((run / RunFile.CLOSED).read_text())
    assert record["clips"] > 0
    assert [point["price"] for point in record["prices"]]


def test_an_expert_is_taken_out_and_the_others_weigh_anew(run):
    first, *rest = Predictor.load(run).config.model.expert_names
    settled = recalibrate(run, without=[first])
    predictor = Predictor.load(run)
    assert predictor.config.model.expert_names == tuple(rest)
    assert settled.promised.depths.order == tuple(rest)
    answer = predictor.predict(sound(), RATE_HZ, k=len(rest))
    assert {use.name for use in answer.experts} == set(rest)
    again = recalibrate(run)
    assert again.routing.temperatures == pytest.approx(settled.routing.temperatures, rel=1e-4)


def stop_at(monkeypatch, moment):
    """Let nothing be renamed into place from that moment on; returns how often it was tried."""
    seen = []

    def replace(self, target):
        if len(seen) == moment:
            raise KeyboardInterrupt
        seen.append(target)
        return original(self, target)

    original = Path.replace
    monkeypatch.setattr(Path, "replace", replace)
    return seen


def test_wherever_a_removal_stops_the_run_answers_and_can_be_routed_anew(
    closed_run, tmp_path, monkeypatch
):
    gone, *rest = Predictor.load(closed_run).config.model.expert_names
    found = []
    for moment in range(30):
        run = shutil.copytree(closed_run, tmp_path / str(moment))
        with monkeypatch.context() as patch:
            seen, stopped = stop_at(patch, moment), False
            try:
                recalibrate(run, without=[gone])
            except KeyboardInterrupt:
                stopped = True
        predictor = Predictor.load(run)
        names = predictor.config.model.expert_names
        if stopped:  # the same command ends what was begun
            again = shutil.copytree(run, tmp_path / f"{moment}-again")
            assert recalibrate(again, without=[gone]).promised.depths.order == tuple(rest)
            assert gone not in (again / RunFile.ARCHITECTURE).read_text()
            policy = json.loads((again / RunFile.POLICY).read_text())
            assert policy["experts"] == rest
            assert [row["name"] for row in policy["candidates"] if row["taken"]] == rest
        assert names in ((gone, *rest), tuple(rest))
        assert predictor.predict(sound(), RATE_HZ, k=len(names)).k == len(names)
        settled = recalibrate(run)
        assert settled.promised.depths.order == names
        found.append(names)
        if not stopped:
            break
    assert len(seen) >= 6
    assert found[0] == (gone, *rest)
    assert found[-1] == tuple(rest)


def test_a_run_that_has_not_answered_yet_is_told_from_one_by_gradient(run):
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(RunFolderError, match="its training did not end"):
        recalibrate(run)


def test_who_is_not_there_or_the_last_cannot_be_taken_out(run):
    names = Predictor.load(run).config.model.expert_names
    with pytest.raises(ConfigError, match="no expert nobody"):
        recalibrate(run, without=["nobody"])
    with pytest.raises(ConfigError, match="must stay"):
        recalibrate(run, without=names)


@pytest.mark.parametrize("damage", ["{}", "[]", '{"clips": 3}'])
def test_a_record_that_is_none_is_named(run, damage):
    (run / RunFile.CLOSED).write_text(damage)
    with pytest.raises(RunFolderError, match=r"closed_form.json: not the record of a fit"):
        recalibrate(run)


def test_a_run_that_was_trained_by_gradient_knows_no_costs(copied):
    with pytest.raises(ConfigError, match="by gradient"):
        recalibrate(copied, budget="5ms")
