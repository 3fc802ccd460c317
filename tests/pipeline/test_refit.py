"""Runs that grow: an expert that is added and clips that are, as if they had always been there."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import soundfile as sf
import torch

from tests.fixtures.closed import CLASSES, FEWER_MS, OF_A_SOURCE, SOURCES, cost_ms
from tests.pipeline.conftest import RATE_HZ, ask_closed, listen, sound, split_sources, tensors_of
from xmoe.audio.dataset import load_more
from xmoe.base.errors import ConfigError, DatasetError
from xmoe.pipeline.classifier import MoEAudioClassifier
from xmoe.pipeline.fit import fit_run
from xmoe.pipeline.recalibrate import recalibrate
from xmoe.pipeline.refit import (
    add_expert,
    keep_features,
    offer_backbone,
    read_kept,
    read_spec,
)
from xmoe.pipeline.request import Offered, read_cards
from xmoe.pipeline.update import update_run
from xmoe.policy.policy import Policy, PolicyOverrides
from xmoe.predict.predictor import Predictor
from xmoe.run.folder import ROUTER, RunFile, RunFolder
from xmoe.training import closed
from xmoe.training.known import Known


@pytest.fixture
def run(closed_run, tmp_path):
    return shutil.copytree(closed_run, tmp_path / "run")


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
def test_wherever_an_addition_stops_the_same_command_ends_it(
    closed_run, run, scenes, tmp_path, renames
):
    *_, spec = RunFolder(closed_run).read_config().model.experts
    recalibrate(run, without=[spec.name])
    written = renames.names
    written.clear()
    whole = shutil.copytree(run, tmp_path / "whole")
    add_expert(whole, spec, [scenes])
    first, last = written.index("best.json") + 1, written.index(RunFile.CLOSED)
    assert written.index(RunFile.ARCHITECTURE) < written.index(RunFile.KNOWN) < last
    for moment in (written.index(RunFile.POLICY) + 1, first, last - 1, last):
        half = shutil.copytree(run, tmp_path / str(moment))
        renames.stop_at(moment)
        with pytest.raises(KeyboardInterrupt):
            add_expert(half, spec, [scenes])
        renames.stop_at(None)
        assert Predictor.load(half).predict(sound(), RATE_HZ).label in CLASSES
        add_expert(half, spec, [scenes])
        assert tensors_of(half).keys() == tensors_of(whole).keys()
        weights = [json.loads((at / RunFile.CLOSED).read_text())["weights"] for at in (half, whole)]
        assert weights[0][-1] == pytest.approx(weights[1][-1])
        with pytest.raises(ConfigError, match="already has an expert"):
            add_expert(half, spec, [scenes])


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
    with pytest.raises(ConfigError, match=f"already has an expert {spec.name}"):
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
    with pytest.raises(
        ConfigError, match=r"does not fit this run: segments are shorter than 0.4 s"
    ):
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
        ({"name": "../up"}, "cannot name an expert"),
        ({"name": "stem"}, "cannot name an expert"),
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


@pytest.mark.usefixtures("few_families", "undrawn")
def test_copies_at_other_speeds_grow_with_clips_and_experts(voices, tmp_path):
    first, later = split_sources(voices, tmp_path)
    run, asked = tmp_path / "run", PolicyOverrides(experts=("broadband",))
    fit_run(ask_closed(first, run, overrides=asked))
    fit_run(ask_closed(voices, tmp_path / "at_once", overrides=asked))
    update_run(run, load_more(later, None, "single_label"))
    assert len(read_kept(RunFolder(run)).whole.copied_rows()) == 2 * 48
    again, at_once = tensors_of(run), tensors_of(tmp_path / "at_once")
    for part in again.keys() - {ROUTER}:
        torch.testing.assert_close(again[part], at_once[part], atol=1e-6, rtol=1e-6)
    spec = read_spec("transient", RunFolder(run)).model_copy(update={"kernels": 2})
    add_expert(run, spec, [first, later])
    assert read_kept(RunFolder(run)).holds([spec])
    choice = RunFolder(run).read_record(RunFile.POLICY, Policy).choices[-1]
    assert (choice.name, choice.value) == ("speeds", [0.9, 1.1])


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


@pytest.fixture
def priced(monkeypatch, few_families, undrawn):
    """Fits know what experts cost: the function that says what one window of a network does."""

    def set_price(one_window_ms):
        def cost(spec, **_):
            few = getattr(spec, "windows", None) == 1
            return one_window_ms if few else cost_ms(spec)

        monkeypatch.setattr(closed, "measure_ms", cost)

    return set_price


def same_but_for_rounding(one, other):
    """Assert that two runs have the same experts, to the bit, and route them alike."""
    mine, theirs = RunFolder(one).read_config(), RunFolder(other).read_config()
    assert mine.model.expert_names == theirs.model.expert_names
    ours, others = tensors_of(one), tensors_of(other)
    for part in ours.keys() - {ROUTER}:
        assert all(torch.equal(ours[part][name], others[part][name]) for name in ours[part])
    assert torch.allclose(ours[ROUTER]["shares"], others[ROUTER]["shares"], atol=1e-9)
    for name in ("mean", "scale", "weights", "bias"):
        torch.testing.assert_close(ours[ROUTER][name], others[ROUTER][name], atol=1e-3, rtol=1e-3)
    assert mine.routing.costs_ms == theirs.routing.costs_ms
    assert mine.routing.temperatures == pytest.approx(theirs.routing.temperatures, rel=1e-9)
    assert mine.routing.k_price == pytest.approx(theirs.routing.k_price)


@pytest.mark.parametrize(("window_ms", "taken"), [(FEWER_MS, "tiny"), (0.2, "tiny-1w tiny")])
def test_a_network_that_is_added_gives_the_run_that_is_trained_with_it(
    priced, tiny_card, loud_scenes, tmp_path, window_ms, taken
):
    priced(window_ms)
    cards = read_cards([tiny_card])
    fit_run(ask_closed(loud_scenes, tmp_path / "with", backbones=cards))
    fit_run(ask_closed(loud_scenes, tmp_path / "without"))
    before = RunFolder(tmp_path / "without").read_config().model.expert_names
    grown = offer_backbone(tmp_path / "without", cards[0], [loud_scenes])
    assert grown.settled.promised.depths.order == (*before, *taken.split())
    assert grown.tried == ("tiny", "tiny-half", "tiny-1w")
    same_but_for_rounding(tmp_path / "without", tmp_path / "with")
    tables = [
        RunFolder(tmp_path / name).read_record(RunFile.POLICY, Policy).candidates
        for name in ("without", "with")
    ]
    assert [row.model_dump() for row in tables[0]] == [row.model_dump() for row in tables[1]]
    offered = RunFolder(tmp_path / "without").read_record(RunFile.OFFERED, Offered)
    assert offered.backbones == cards
    assert Predictor.load(tmp_path / "without").predict(sound(), RATE_HZ).label in CLASSES


@pytest.mark.usefixtures("few_families")
def test_a_network_that_does_not_pay_is_not_taken(closed_run, run, tiny_card, scenes):
    tried = MoEAudioClassifier.load(run).add_expert(tiny_card, scenes)
    names = {"tiny": False, "tiny-half": False, "tiny-1w": False}
    assert {row["name"]: row["taken"] for row in tried} == names
    same_but_for_rounding(run, closed_run)


@pytest.mark.usefixtures("one_window_at_most")
def test_a_run_whose_network_hears_few_windows_grows(priced, tiny_card, loud_scenes, tmp_path):
    priced(0.2)
    run = tmp_path / "run"
    fit_run(ask_closed(loud_scenes, run, backbones=read_cards([tiny_card])))
    whole = shutil.copytree(run, tmp_path / "whole")
    *_, few = RunFolder(run).read_config().model.experts
    assert few.windows == 1
    recalibrate(run, without=["low"])
    assert RunFolder(run).read_config().model.expert_names == (few.name,)
    add_expert(run, RunFolder(whole).read_config().model.experts[0], [loud_scenes])
    same_but_for_rounding(run, whole)
    recalibrate(run, without=[few.name])
    assert add_expert(run, few, [loud_scenes]).tried == (few.name,)
    same_but_for_rounding(run, whole)


def test_few_windows_are_looked_for_in_new_clips_alone(
    priced, tiny_card, loud_scenes, tmp_path, monkeypatch
):
    priced(0.2)
    first, later = split_sources(loud_scenes, tmp_path)
    run = tmp_path / "run"
    fit_run(ask_closed(first, run, backbones=read_cards([tiny_card])))
    *_, few = RunFolder(run).read_config().model.experts
    assert few.windows == 1
    forgetful = shutil.copytree(run, tmp_path / "forgetful")
    known = read_kept(RunFolder(run))
    before = known.whole.focus["whole"]
    shutil.rmtree(first)
    more = load_more(later, None, "single_label")
    update_run(run, more)
    again = read_kept(RunFolder(run))
    assert (again.whole.focus["whole"][: len(before)] == before).all()
    assert again.whole.looked("whole").all()
    assert again.noisy.looked("noisy").all()
    assert len(again.whole.focus["whole"]) > len(before)
    assert Predictor.load(run).predict(sound(), RATE_HZ, k=2).label in CLASSES

    Known(replace(known.whole, focus={}), known.noisy).save(forgetful / RunFile.KNOWN)
    with pytest.raises(ConfigError, match=f"earlier recordings {few.name} chose"):
        update_run(forgetful, more)
