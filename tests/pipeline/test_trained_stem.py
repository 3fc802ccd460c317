"""The stem of a network: that of the run where validation says so, and gone with the network."""

import pytest
import torch

from tests.fixtures.closed import SOURCES, SPECTRO
from xmoe.audio.dataset import load_dataset
from xmoe.audio.segment import Segment
from xmoe.audio.store import load_clips
from xmoe.base.errors import RunFolderError
from xmoe.base.task import task_of
from xmoe.frontend.registry import build_frontend
from xmoe.pipeline import trained_stem
from xmoe.pipeline.recalibrate import recalibrate
from xmoe.policy.policy import Policy
from xmoe.predict.predictor import Predictor
from xmoe.run.folder import RunFile, RunFolder
from xmoe.training.observe import glance_at
from xmoe.training.pieces import cut_training
from xmoe.training.promises import read_table

RATE_HZ = 8000
VAL_CLIPS = 4 * SOURCES["val"]


@pytest.mark.usefixtures("hearing")
def test_a_stem_that_knows_more_becomes_that_of_the_run(run, add, scenes):
    folder = RunFolder(run)
    own = RunFolder(run / RunFile.BY_GRADIENT).load_tensors("stem")
    add()
    config = folder.read_config()
    assert config.model.stem == "cnn"
    assert config.model.stem_channels == 4
    (choice,) = [
        one for one in folder.read_record(RunFile.POLICY, Policy).choices if one.name == "stem"
    ]
    assert choice.value == "cnn"
    assert f"log loss on {VAL_CLIPS} validation clips" in choice.reason
    stem = folder.load_tensors("stem")
    factor = stem["head.weight"] / own["head.weight"]
    assert float(factor.min()) == pytest.approx(float(factor.max()))
    assert torch.equal(stem["conv1.0.weight"], own["conv1.0.weight"])

    # What the promises were fitted on is what the router sees when it serves.
    model = Predictor.load(run).model
    table = read_table(folder.mixture_file(RunFile.HELD_OUT), config.model.expert_names, model.task)
    example, clip = next(load_clips(load_dataset(scenes), load_dataset(scenes).split("val")[:1]))
    assert table.clip_ids[0] == example.clip_id
    frontend = build_frontend(SPECTRO)
    segments = [Segment(one, RATE_HZ, 0) for one in cut_training(clip, SPECTRO.segment_s)]
    logits = torch.from_numpy(table.logits[0, 0, : len(segments)]).float()
    with torch.inference_mode():
        seen = glance_at(model, frontend, segments, logits)
    assert table.glance[0, : len(segments)] == pytest.approx(seen.numpy(), abs=1e-3)


@pytest.mark.usefixtures("hearing")
def test_without_its_network_a_run_has_its_own_stem_again(run, add):
    folder = RunFolder(run)
    before, stem = folder.read_config().model, folder.load_tensors("stem")
    task = task_of(before.task)
    known = read_table(folder.mixture_file(RunFile.HELD_OUT), before.expert_names, task)
    add()
    assert folder.read_config().model.stem == "cnn"
    recalibrate(run, without=["network"])
    after = folder.read_config().model
    assert after.stem == before.stem
    assert set(after.expert_names) <= set(before.expert_names)
    for name, weight in folder.load_tensors("stem").items():
        assert torch.equal(weight, stem[name])
    table = read_table(folder.mixture_file(RunFile.HELD_OUT), after.expert_names, task)
    assert (table.glance == known.glance).all()
    assert (table.logits == known.keep(after.expert_names).logits).all()


@pytest.mark.usefixtures("hearing")
def test_a_former_stem_that_is_damaged_is_told(run, add):
    add()
    (run / trained_stem.CLOSED_STEM).write_bytes(b"nothing")
    with pytest.raises(RunFolderError, match="not a whole safetensors file"):
        recalibrate(run, without=["network"])


@pytest.mark.usefixtures("hearing")
def test_a_stem_that_costs_more_stays_the_networks(run, add, monkeypatch):
    monkeypatch.setattr(trained_stem, "compare_ms", lambda *_: 1.6)
    add()
    assert RunFolder(run).read_config().model.stem == "kernels"
    policy = RunFolder(run).read_record(RunFile.POLICY, Policy)
    (choice,) = [one for one in policy.choices if one.name == "stem"]
    assert choice.reason.endswith("takes 1.6 times as long")
    assert not (run / trained_stem.CLOSED_STEM).exists()


@pytest.mark.usefixtures("knowing")
def test_a_stem_that_knows_less_stays_the_networks(run, add):
    add()
    assert RunFolder(run).read_config().model.stem == "kernels"
    policy = RunFolder(run).read_record(RunFile.POLICY, Policy)
    (choice,) = [one for one in policy.choices if one.name == "stem"]
    assert choice.reason.startswith("the stem in closed form stays")
