"""Runs that grow: an expert that is added and clips that are, as if they had always been there."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch

from tests.fixtures.closed import CLASSES, OF_A_SOURCE, SOURCES
from tests.pipeline.conftest import ask_closed
from xmoe.audio.dataset import load_more
from xmoe.base.errors import ConfigError, DatasetError
from xmoe.cli.train import read_cards
from xmoe.experts.kernels import KernelsEar
from xmoe.pipeline.fit import fit_run
from xmoe.pipeline.recalibrate import recalibrate
from xmoe.pipeline.refit import add_expert, keep_features, read_spec, update_run
from xmoe.policy.policy import Policy, PolicyOverrides
from xmoe.predict.predictor import Predictor
from xmoe.run.folder import ROUTER, RunFile, RunFolder, answering_parts
from xmoe.training.ears import StemEar

RATE_HZ = 8000
# Sources that come later: two of training and one of validation.
LATER = {7, 8, SOURCES["train"] + 2}


@pytest.fixture
def run(closed_run, tmp_path):
    return shutil.copytree(closed_run, tmp_path / "run")


def tensors_of(run):
    folder = RunFolder(run)
    names = folder.read_config().model.expert_names
    return {part: folder.load_tensors(part) for part in answering_parts(names)}


def sound():
    return (0.1 * np.random.default_rng(0).standard_normal(3000)).astype(np.float32)


def listen(monkeypatch):
    """Return the names of those that measure features from now on."""
    heard = []
    ear, stem = KernelsEar.measure, StemEar.measure
    monkeypatch.setattr(
        KernelsEar, "measure", lambda self, *a: heard.append(self.spec.name) or ear(self, *a)
    )
    monkeypatch.setattr(StemEar, "measure", lambda self, *a: heard.append("stem") or stem(self, *a))
    return heard


@pytest.mark.usefixtures("few_families")
def test_an_expert_that_is_added_is_as_if_trained_with_from_the_start(
    closed_run, run, scenes, monkeypatch
):
    config = RunFolder(closed_run).read_config()
    *_, spec = config.model.experts
    recalibrate(run, without=[spec.name])
    keep_features(RunFolder(run))
    heard = listen(monkeypatch)
    grown = add_expert(run, spec, [scenes])
    assert set(heard) == {spec.name}
    again, before = tensors_of(run), tensors_of(closed_run)
    assert again.keys() == before.keys()
    for part in again.keys() - {ROUTER}:
        assert all(torch.equal(again[part][name], before[part][name]) for name in before[part])
    assert torch.allclose(again[ROUTER]["shares"], before[ROUTER]["shares"], atol=1e-6)
    for name in ("mean", "scale", "weights", "bias"):
        torch.testing.assert_close(again[ROUTER][name], before[ROUTER][name], atol=1e-2, rtol=1e-2)
    routing = RunFolder(run).read_config().routing
    assert routing.temperatures == pytest.approx(config.routing.temperatures, rel=1e-6)
    assert routing.costs_ms == config.routing.costs_ms
    assert grown.clips == OF_A_SOURCE * (SOURCES["train"] + SOURCES["val"])
    row = next(row for row in grown.rows if row.name == spec.name)
    assert row.taken
    policy = RunFolder(run).read_record(RunFile.POLICY, Policy)
    assert policy.experts == config.model.expert_names
    assert {one.name for one in policy.candidates} == {one.name for one in grown.rows}


@pytest.mark.usefixtures("few_families")
def test_without_kept_features_all_are_measured_and_the_run_is_the_same(
    closed_run, run, scenes, monkeypatch
):
    *rest, spec = RunFolder(closed_run).read_config().model.experts
    recalibrate(run, without=[spec.name])
    shutil.rmtree(run / RunFile.FEATURES)
    heard = listen(monkeypatch)
    add_expert(run, spec, [scenes])
    assert set(heard) == {"stem", spec.name, *(one.name for one in rest)}
    again, before = tensors_of(run), tensors_of(closed_run)
    for part in again.keys() - {ROUTER}:
        assert all(torch.equal(again[part][name], before[part][name]) for name in before[part])


def test_an_expert_is_not_added_twice_nor_to_other_clips(run, scenes, tmp_path):
    spec = RunFolder(run).read_config().model.experts[0]
    with pytest.raises(ConfigError, match=f"has an expert {spec.name} already"):
        add_expert(run, spec, [scenes])
    other = shutil.copytree(scenes, tmp_path / "other")
    sf.write(other / "000.wav", np.zeros(3000), RATE_HZ)
    with pytest.raises(DatasetError, match=r"1 of the 48 clips .*: 000.wav"):
        add_expert(run, spec.model_copy(update={"name": "again"}), [other])


def test_a_spec_is_a_family_or_a_file(run, tmp_path):
    folder = RunFolder(run)
    spec = folder.read_config().model.experts[0]
    assert read_spec("fine_stft", folder).family == "fine_frequency"
    path = tmp_path / "spec.json"
    path.write_text(spec.model_dump_json())
    assert read_spec(str(path), folder) == spec
    with pytest.raises(ConfigError, match=r"none for this run: segments are shorter than 0.4 s"):
        read_spec("low_pcen", folder)


@pytest.mark.parametrize(("clips", "kernels"), [(3000, 64), (3001, 32)])
def test_a_family_has_as_many_kernels_as_the_set_s_size_allows(run, clips, kernels):
    folder = RunFolder(run)
    record = json.loads(folder.file(RunFile.CLOSED).read_text())
    folder.write_record(RunFile.CLOSED, record | {"clips": clips})
    assert read_spec("low", folder).kernels == kernels


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (None, "no file and no family"),
        ({"kernels": 0}, "kernels"),
        ({"kind": "nothing"}, "nothing"),
        ({"name": "../up"}, "no name for an expert"),
        ({"name": "stem"}, "no name for an expert"),
    ],
)
def test_what_is_no_spec_is_refused_with_the_reason(run, tmp_path, change, said):
    folder = RunFolder(run)
    spec = folder.read_config().model.experts[0].model_dump(mode="json")
    path = tmp_path / "spec.json"
    if change is not None:
        path.write_text(json.dumps(spec | change))
    with pytest.raises(ConfigError, match=said):
        read_spec(str(path), folder)


@pytest.fixture
def parted(scenes, tmp_path):
    """Return a folder with the scenes of some sources, and one with those of the others."""
    header, *rows = (scenes / "metadata.csv").read_text().splitlines()
    roots = tmp_path / "first", tmp_path / "later"
    for root in roots:
        root.mkdir()
        own = [row for row in rows if (int(row.split(",")[3]) in LATER) == (root == roots[1])]
        (root / "metadata.csv").write_text("\n".join([header, *own]) + "\n")
        for row in own:
            name = row.split(",")[0]
            shutil.copyfile(scenes / name, root / name)
    return roots


@pytest.fixture
def young(parted, closed_run, tmp_path, few_families, undrawn):
    """A run that knows the first of the scenes alone; these recordings are gone."""
    first, _ = parted
    experts = RunFolder(closed_run).read_config().model.experts
    wanted = PolicyOverrides(experts=tuple(spec.family for spec in experts))
    fit_run(ask_closed(first, tmp_path / "young", overrides=wanted))
    shutil.rmtree(first)
    return tmp_path / "young"


def test_clips_that_are_added_give_the_heads_of_training_on_all_at_once(
    young, parted, closed_run, monkeypatch
):
    _, later = parted
    heard = listen(monkeypatch)
    more = load_more(later, None, "single_label")
    before = tensors_of(young)
    grown = update_run(young, more)
    assert (grown.clips, grown.added, grown.passed) == (48, OF_A_SOURCE * len(LATER), 0)
    names = RunFolder(young).read_config().model.expert_names
    assert set(heard) == {"stem", *names}
    again, at_once = tensors_of(young), tensors_of(closed_run)
    shared = (again.keys() & at_once.keys()) - {ROUTER}
    assert len(shared) >= 2
    for part in shared:
        for name in ("weight", "bias", "head.weight", "head.bias"):
            if name in again[part]:
                far = (again[part][name] - at_once[part][name]).abs().max()
                assert far <= 1e-6 * at_once[part][name].abs().max().clamp_min(1.0)
                assert not torch.equal(again[part][name], before[part][name])
    record = json.loads((young / RunFile.CLOSED).read_text())
    assert record["clips"] == 48
    assert Predictor.load(young).predict(sound(), RATE_HZ).label in CLASSES
    with pytest.raises(DatasetError, match="nothing is new"):
        update_run(young, more)


def test_wherever_an_update_stops_the_run_answers_and_the_next_one_ends_it(
    young, parted, tmp_path, monkeypatch
):
    more = load_more(parted[1], None, "single_label")
    written, original = [], Path.replace

    def write(self, target):
        if len(written) == stop:
            raise KeyboardInterrupt
        written.append(Path(target).name)
        return original(self, target)

    stop = -1
    monkeypatch.setattr(Path, "replace", write)
    whole = shutil.copytree(young, tmp_path / "whole")
    update_run(whole, more)
    first, last = written.index(RunFile.HELD_OUT), written.index(RunFile.KNOWN)
    assert last - first >= 8
    for moment in (written.index("best.json") + 1, last):
        run = shutil.copytree(young, tmp_path / str(moment))
        written.clear()
        stop = moment
        with pytest.raises(KeyboardInterrupt):
            update_run(run, more)
        stop = -1
        assert Predictor.load(run).predict(sound(), RATE_HZ).label in CLASSES
        assert update_run(run, more).clips == 48
        for part, tensors in tensors_of(whole).items():
            own = tensors_of(run)[part]
            assert all(torch.allclose(own[name], tensors[name]) for name in tensors), part


def test_what_an_update_cannot_do_it_refuses(young, parted):
    _, later = parted
    more = load_more(later, None, "single_label")
    examples = tuple(replace(one, labels=("owl",)) for one in more.examples)
    with pytest.raises(DatasetError, match="does not know the labels owl"):
        update_run(young, replace(more, examples=examples, classes=("owl",)))
    (later / "000.wav").write_bytes((later / "028.wav").read_bytes())
    renamed = tuple(replace(one, filepath="000.wav") for one in more.examples[:1])
    with pytest.raises(DatasetError, match=r"names of known clips and other bytes: 000.wav"):
        update_run(young, replace(more, examples=renamed))
    shutil.rmtree(young / RunFile.FEATURES)
    with pytest.raises(ConfigError, match="keeps no features"):
        update_run(young, more)


@pytest.mark.usefixtures("few_families")
def test_a_pretrained_network_is_added_and_comes_after_the_cheap(run, tiny_card, scenes):
    before = tensors_of(run)
    (spec,) = read_cards([tiny_card])
    grown = add_expert(run, spec, [scenes])
    config = RunFolder(run).read_config()
    assert config.model.expert_names[-1] == spec.name
    assert grown.settled.routing.costs_ms[-1] > 0.0
    again = tensors_of(run)
    for part in before.keys() - {ROUTER}:
        assert all(torch.equal(again[part][name], before[part][name]) for name in before[part])
    assert Predictor.load(run).predict(sound(), RATE_HZ, k=3).label in CLASSES
    few = spec.model_copy(update={"name": "few", "windows": 1})
    with pytest.raises(ConfigError, match="few hears the 1 most salient"):
        add_expert(run, few, [scenes])
