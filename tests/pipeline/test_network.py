"""The phase by gradient after one in closed form: what it adds is kept where validation says so."""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.fixtures.closed import SOURCES, SPECTRO
from tests.pipeline.conftest import ask_closed
from xmoe.base.config import TrainConfig
from xmoe.base.errors import ConfigError
from xmoe.mixture.network import NetworkExpert
from xmoe.pipeline.fit import fit_run
from xmoe.pipeline.network import judged_row
from xmoe.pipeline.recalibrate import recalibrate
from xmoe.pipeline.refit import add_expert
from xmoe.policy.policy import Policy
from xmoe.predict.predictor import Predictor
from xmoe.report.report import write_report
from xmoe.run.folder import RunFile, RunFolder, answering_parts
from xmoe.training.session import read_history

RATE_HZ = 8000
SOUND = (0.1 * np.random.default_rng(0).standard_normal(4000)).astype(np.float32)
VAL_CLIPS = 4 * SOURCES["val"]


def probabilities(run):
    return list(Predictor.load(run).predict(SOUND, RATE_HZ).probabilities.values())


def test_a_network_that_knows_nothing_leaves_the_run_as_it_is(run, add):
    before, said = RunFolder(run).read_config(), probabilities(run)
    weights = RunFolder(run).checkpoint_folder("best")
    row = add()
    assert not row.taken
    assert row.gain <= row.gain_se
    assert "no more than a standard error" in row.reason
    assert f"{VAL_CLIPS} validation clips of {SOURCES['val']} sources" in row.reason
    assert "clip by clip" in row.reason
    assert RunFolder(run).read_config() == before
    assert RunFolder(run).checkpoint_folder("best") == weights
    assert probabilities(run) == said
    policy = RunFolder(run).read_record(RunFile.POLICY, Policy)
    assert row in policy.candidates
    assert judged_row(RunFolder(run)) == row
    assert "network" not in policy.experts
    page = write_report(run).read_text()
    assert "It did not become an expert" in page


@pytest.mark.usefixtures("knowing")
def test_a_network_that_knows_more_becomes_an_expert_and_is_asked_when_it_pays(run, add):
    before = RunFolder(run).read_config()
    row = add()
    assert row.taken
    assert row.gain > row.gain_se
    config = RunFolder(run).read_config()
    names = config.model.expert_names
    assert names[row.place - 1] == "network" == names[0]  # the others have little to add
    assert {"network"} < set(names) <= {"network", *before.model.expert_names}
    costs = dict(zip(before.model.expert_names, before.routing.costs_ms, strict=True))
    costs["network"] = row.ms
    assert config.routing.costs_ms == tuple(costs[name] for name in names)
    assert config.routing.glance_ms == before.routing.glance_ms
    predictor = Predictor.load(run)
    expert = predictor.model.experts["network"]
    assert isinstance(expert, NetworkExpert)
    assert float(expert.sharpness) != 1.0
    answer = predictor.predict(SOUND, RATE_HZ, k=config.model.k_max)
    assert "network" in [asked.name for asked in answer.experts]
    policy = RunFolder(run).read_record(RunFile.POLICY, Policy)
    assert policy.experts == config.model.expert_names
    assert "network: trained by gradient" in next(
        one.reason for one in policy.choices if one.name == "experts"
    )


@pytest.mark.usefixtures("knowing", "few_families")
def test_beside_an_expert_that_is_added_it_is_judged_again(run, add, scenes):
    first = add()
    spec = RunFolder(run).read_config().model.experts[-1]
    other = spec.model_copy(update={"name": "other", "seed": 7})
    with pytest.raises(ConfigError, match="gradients trained network, which cannot"):
        add_expert(run, other, [scenes])
    recalibrate(run, without=["network"])
    add_expert(run, other, [scenes])
    assert judged_row(RunFolder(run)) is None
    row = add()
    assert row.taken
    assert row.ms == first.ms
    assert row.gain != first.gain
    assert "network" in RunFolder(run).read_config().model.expert_names


@pytest.mark.usefixtures("knowing")
def test_a_run_with_a_network_is_routed_anew_and_goes_without(run, add):
    names = RunFolder(run).read_config().model.expert_names
    add()
    settled = recalibrate(run, budget="latency")
    assert "network" in settled.promised.depths.order
    assert len(set(settled.promised.clips.tolist())) == VAL_CLIPS
    settled = recalibrate(run, without=["network"])
    assert set(RunFolder(run).read_config().model.expert_names) <= set(names)
    # Answers to training clips, which the network cannot give, are back; it may be judged again.
    assert len(set(settled.promised.clips.tolist())) > VAL_CLIPS
    assert judged_row(RunFolder(run)) is None


@pytest.mark.parametrize("knows", ["knowing", "hearing"])
def test_stopped_at_any_write_the_run_answers_and_goes_on(
    knows, run, add, tmp_path, monkeypatch, request
):
    request.getfixturevalue(knows)
    calm = shutil.copytree(run, tmp_path / "calm")
    before = probabilities(run)
    add()
    after, wanted = probabilities(run), RunFolder(run).read_config()
    assert after != before
    seen, most = set(), 0
    while True:
        shutil.rmtree(run)
        shutil.copytree(calm, run)
        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", stop_after(most))
            if ended(add):
                break
        said = probabilities(run)
        assert said in (before, after)
        stem = RunFolder(run).read_config().model.stem
        assert stem == (wanted.model.stem if said == after else "kernels")
        if (said == after) not in seen or not most % 4:
            add()
            assert probabilities(run) == after
            assert RunFolder(run).read_config() == wanted
        seen.add(said == after)
        most += 1
    assert seen == {False, True}
    assert most > 8


def ended(call):
    """Call, and return whether it came to its end."""
    try:
        call()
    except KeyboardInterrupt:
        return False
    return True


def stop_after(most):
    """Return a way to rename files that dies instead of renaming one more than ``most``."""
    original, renamed = Path.replace, []

    def replace(self, target):
        if len(renamed) == most:
            raise KeyboardInterrupt
        renamed.append(target)
        return original(self, target)

    return replace


@pytest.mark.usefixtures("few_families", "undrawn")
def test_a_run_in_closed_form_goes_on_by_gradient(closed_run, scenes, tmp_path):
    path = shutil.copytree(closed_run, tmp_path / "run")
    train = TrainConfig(fit="both", epochs=1, batch_size=8, device="cpu")
    fit_run(ask_closed(scenes, path, train=train, resume=True))
    own = RunFolder(path / RunFile.BY_GRADIENT)
    assert own.read_config().spectro == SPECTRO
    assert own.read_config().train.fit == "gradient"
    assert [row["epoch"] for row in read_history(own)] == [1]
    assert judged_row(RunFolder(path)).name == "network"
    assert not (path / RunFile.STORES).exists()
    assert "trained by gradient" in (path / RunFile.REPORT).read_text()

    def refuse(job, progress):
        raise AssertionError("it was trained again")

    fit_run(ask_closed(scenes, path, train=train, resume=True, engine=refuse))


def test_seeds_must_not_change_on_the_way(closed_run, scenes):
    train = TrainConfig(fit="both", seed=1)
    with pytest.raises(ConfigError, match="other settings for: seed"):
        fit_run(ask_closed(scenes, closed_run, train=train, resume=True))


def weights_of(run):
    """Return every tensor of the last checkpoint of a network."""
    own = RunFolder(run / RunFile.BY_GRADIENT)
    parts = answering_parts(own.read_config().model.expert_names)
    return {part: own.load_tensors(part, "last") for part in parts}


def start(tones, out, *more):
    """Start ``xmoe train`` in both phases on a folder of tones."""
    options = "--fit both --local --policy rule --num-bins 16 --segment 0.3 --device cpu"
    words = ["train", "--dataset", tones, "--out", out, *options.split(), "--epochs", 12, *more]
    line = [sys.executable, "-m", "xmoe", *map(str, words)]
    return subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def wait_for(what, process, within_s=600.0):
    """Wait until ``what()`` is true while a process runs."""
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        if what():
            return
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    pytest.fail("it did not come so far")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_and_interrupted_in_both_phases_it_ends_where_a_calm_one_does(tones, tmp_path):
    calm, struck = tmp_path / "calm", tmp_path / "struck"
    with start(tones, calm) as undisturbed:
        assert undisturbed.wait(1200) == 0, undisturbed.stderr.read()
    with start(tones, struck) as first:
        wait_for(lambda: any((struck / RunFile.FEATURES).glob("*/*.npy")), first)
        first.kill()
    assert not RunFolder(struck).exists("best")
    own = RunFolder(struck / RunFile.BY_GRADIENT)
    with start(tones, struck, "--resume") as second:
        wait_for(lambda: len(read_history(own)) >= 2, second)
        second.kill()
    said = probabilities(struck)
    with start(tones, struck, "--resume") as third:
        wait_for(lambda: len(read_history(own)) >= 4, third)
        third.send_signal(signal.SIGINT)
        assert third.wait(60) == 130
        told = third.stderr.read()
    assert "the run answers with what was fitted in closed form" in told
    assert "--fit both" in told
    assert probabilities(struck) == said
    with start(tones, struck, "--resume") as last:
        assert last.wait(1200) == 0, last.stderr.read()
    # A process that fitted in closed form first may sum with other threads.
    torch.testing.assert_close(weights_of(struck), weights_of(calm), atol=1e-3, rtol=0.0)
    for name in ("gain", "taken", "weight"):
        rows = [judged_row(RunFolder(one)) for one in (calm, struck)]
        assert getattr(rows[0], name) == pytest.approx(getattr(rows[1], name), abs=1e-3)
