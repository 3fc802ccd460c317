"""Fitting in closed form, end to end: a folder of recordings becomes a run that answers."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import soundfile as sf

from tests.fixtures.closed import CLASSES, OF_A_SOURCE, SOURCES
from tests.pipeline.conftest import ask_closed
from xmoe.audio.clip import read_clip
from xmoe.audio.dataset import load_dataset
from xmoe.base.config import RunConfig
from xmoe.base.errors import ConfigError, InputError, XmoeError
from xmoe.base.files import read_json
from xmoe.batch.answers import answer_clips
from xmoe.pipeline import closed as module
from xmoe.pipeline import fit
from xmoe.pipeline.classifier import MoEAudioClassifier
from xmoe.pipeline.fit import fit_run
from xmoe.pipeline.recalibrate import recalibrate
from xmoe.pipeline.refit import read_kept
from xmoe.pipeline.request import read_cards
from xmoe.policy.policy import Policy
from xmoe.predict.predictor import Predictor
from xmoe.run.folder import RunFile, RunFolder
from xmoe.training import closed as training
from xmoe.training import kernel_features
from xmoe.training.ears import StemSpec

RATE_HZ = 8000


def weights_of(run):
    """Return the bytes of every weights file of the best checkpoint."""
    files = RunFolder(run).checkpoint_folder("best").glob("*.safetensors")
    return {path.name: path.read_bytes() for path in files}


def recordings(scenes):
    return [(one.filepath, scenes / one.filepath) for one in load_dataset(scenes).split("test")]


def figures_of(run):
    return json.loads((run / "metrics.json").read_text())


def test_the_run_answers_and_its_figures_say_so(closed_run, scenes):
    predictor = Predictor.load(closed_run)
    assert predictor.config.model.router == "promise"
    assert len(predictor.config.model.experts) >= 2
    truth = {one.clip_id: one.labels[0] for one in load_dataset(scenes).split("test")}
    right = [
        predictor.predict(*sf.read(path, dtype="float32")).label == truth[name]
        for name, path in recordings(scenes)
    ]
    figures = figures_of(closed_run)
    assert figures["accuracy"] == pytest.approx(np.mean(right))
    assert np.mean(right) > 0.5
    assert figures["accuracy_at_fixed_k"].keys() == figures["ms_at_fixed_k"].keys()
    assert 0.0 < figures["mean_ms"] <= max(figures["ms_at_fixed_k"].values()) + 1e-3


def test_a_recording_is_answered_alike_in_a_batch_and_alone(closed_run, scenes):
    predictor = Predictor.load(closed_run)
    clips = [(name, read_clip(path)) for name, path in recordings(scenes)]
    other = (np.random.default_rng(0).normal(size=16_000) * 0.01).astype(np.float32)
    clips.insert(3, ("other", replace(clips[0][1], samples=other, sample_rate_hz=16_000)))
    for (name, clip), (said_of, answer) in zip(clips, answer_clips(predictor, clips), strict=True):
        alone = predictor.predict(clip.samples, clip.sample_rate_hz)
        assert said_of == name
        assert list(answer.probabilities.values()) == pytest.approx(
            list(alone.probabilities.values()), abs=1e-5
        )
        assert answer.k == alone.k


def test_segments_without_their_sound_are_refused(closed_run):
    predictor = Predictor.load(closed_run)
    specs, sound = predictor.hear(np.zeros(4000, np.float32), RATE_HZ)
    assert len(predictor.answer_segments(specs, sound).logits) == len(specs)
    with pytest.raises(ValueError, match="hear sound"):
        predictor.answer_segments(specs)


def test_settings_and_records_tell_what_was_chosen(closed_run):
    folder = RunFolder(closed_run)
    config = folder.read_record(RunFile.CONFIG, RunConfig)
    policy = folder.read_record(RunFile.POLICY, Policy)
    record = json.loads(folder.file(RunFile.CLOSED).read_text())
    names = config.model.expert_names
    assert policy.experts == names
    assert {row.name for row in policy.candidates if row.taken} >= set(names)
    assert record["clips"] == OF_A_SOURCE * (SOURCES["train"] + SOURCES["val"])
    assert [len(weights) for weights in record["weights"]] == list(range(1, len(names) + 2))
    assert len(config.routing.temperatures) == len(config.routing.costs_ms) + 1 == len(names) + 1
    assert config.routing.k_price in [point["price"] for point in record["prices"]]
    assert (closed_run / RunFile.REPORT).is_file()
    known = read_kept(folder)
    assert {one.split for one in known.whole.examples} == {"train", "val"}
    assert len(known.whole.examples) == record["clips"]
    assert known.holds([StemSpec(spectro=config.spectro), *config.model.experts])
    assert not (closed_run / RunFile.STORES).exists()


@pytest.mark.usefixtures("few_families", "undrawn")
def test_what_was_stopped_before_its_record_is_fitted_again_from_the_cache(
    closed_run, scenes, tmp_path, monkeypatch
):
    def stop(self, name, record):
        if name == RunFile.CLOSED:
            raise KeyboardInterrupt
        original(self, name, record)

    original = RunFolder.write_record
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "write_record", stop)
        with pytest.raises(KeyboardInterrupt):
            fit_run(ask_closed(scenes, tmp_path / "run", budget="3ms"))
    stopped = Predictor.load(tmp_path / "run")
    assert stopped.predict(np.zeros(4000, np.float32), RATE_HZ).label in CLASSES
    assert weights_of(tmp_path / "run") == weights_of(closed_run)

    measured = []
    original_measure = kernel_features._measure_all
    monkeypatch.setattr(
        kernel_features,
        "_measure_all",
        lambda task, *rest: measured.extend(task.dataset.examples) or original_measure(task, *rest),
    )
    fit_run(ask_closed(scenes, tmp_path / "run", budget="3ms", resume=True))
    assert {one.split for one in measured} == {"test"}
    assert weights_of(tmp_path / "run") == weights_of(closed_run)
    routing = RunFolder(tmp_path / "run").read_config().routing
    assert routing.budget == "3ms"
    assert "within 3 ms" in routing.reasons["k"]


@pytest.mark.usefixtures("few_families", "undrawn")
@pytest.mark.usefixtures("few_families", "undrawn")
def test_of_many_clips_a_first_mixture_answers_before_all_are_heard(scenes, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "SEARCH_CLIPS", 24)
    told, run = [], tmp_path / "run"

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training, "_choose_speeds", stop)
        with pytest.raises(KeyboardInterrupt):
            fit_run(ask_closed(scenes, run), progress=lambda *line: told.append(line))
    (said,) = [line for line in told if line[0] == "first mixture"]
    assert said[3].startswith("24 of ")
    first = Predictor.load(run)
    assert first.predict(np.zeros(4000, np.float32), RATE_HZ).label in CLASSES
    assert not (run / RunFile.CLOSED).exists()
    with pytest.raises(XmoeError, match="closed_form"):
        recalibrate(run)

    fit_run(ask_closed(scenes, run, resume=True))
    fit_run(ask_closed(scenes, tmp_path / "other"))
    assert weights_of(run) == weights_of(tmp_path / "other")
    whole = Predictor.load(run).config.model
    assert len(read_json(run / RunFile.CLOSED)["candidates"]) >= len(whole.experts)


def test_what_was_fitted_is_not_fitted_again(closed_run, scenes, tmp_path, monkeypatch):
    copied = shutil.copytree(closed_run, tmp_path / "run")
    (copied / "metrics.json").unlink()

    def refuse(*_, **__):
        raise AssertionError("it was fitted again")

    monkeypatch.setattr(fit, "fit_closed_run", refuse)
    fit_run(ask_closed(scenes, copied, resume=True))
    assert weights_of(copied) == weights_of(closed_run)
    assert figures_of(copied)["accuracy"] == figures_of(closed_run)["accuracy"]


def test_a_checkpoint_changes_weights_and_settings_at_once(closed_run, tmp_path, monkeypatch):
    run = RunFolder(shutil.copytree(closed_run, tmp_path / "run"))
    before = run.read_config()
    after = before.model_copy(update={"classes": tuple("efgh")})

    def die(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(RunFolder, "write_record", die)
    with pytest.raises(KeyboardInterrupt):
        run.save_checkpoint("new", {"stem": {}}, {}, which=("best",), config=after)
    assert json.loads(run.file(RunFile.CONFIG).read_text())["classes"] == list(before.classes)
    assert run.read_config() == after
    assert run.checkpoint_folder("best").name == "new"
    assert run.checkpoint_folder("last").name == "closed"


@pytest.mark.parametrize("budget", ["soon", 99.0])
def test_what_is_no_budget_is_refused_before_anything_is_fitted(scenes, tmp_path, budget):
    with pytest.raises(ConfigError, match="budget"):
        fit_run(ask_closed(scenes, tmp_path / "run", budget=budget))


def test_the_glance_costs_time(leaky):
    assert 0.0 < module.measure_glance_ms(leaky.model, RATE_HZ) < 1000.0


@pytest.mark.usefixtures("few_families", "undrawn")
def test_a_run_that_was_stopped_still_knows_the_networks_it_was_offered(
    backbone_run, loud_scenes, tiny_card, tmp_path, monkeypatch
):
    def stop(*_, **__):
        raise KeyboardInterrupt

    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(module, "fit_closed", stop)
        with pytest.raises(KeyboardInterrupt):
            fit_run(ask_closed(loud_scenes, out, backbones=read_cards([tiny_card])))
    fit_run(ask_closed(loud_scenes, out, resume=True))
    assert RunFolder(out).read_config().model.expert_names == ("low", "tiny")
    assert weights_of(out) == weights_of(backbone_run)


def test_a_run_tells_whose_its_networks_are_and_what_they_cost(backbone_run):
    page = (backbone_run / RunFile.ARCHITECTURE).read_text()
    assert "licence CC BY-NC 4.0: NOT FOR COMMERCIAL USE  (a test)" in page
    config = json.loads((backbone_run / RunFile.CONFIG).read_text())
    (card,) = [one["card"] for one in config["model"]["experts"] if one["kind"] == "backbone"]
    assert (card["licence"], card["non_commercial"]) == ("CC BY-NC 4.0", True)
    assert "CC BY-NC 4.0: not for commercial use" in (backbone_run / RunFile.REPORT).read_text()
    # Five windows of 0.3 s; a convolution of two taps, and four numbers by six weights.
    counted = 5 * (2 * 799 + 4 * 6) / 1e6
    assert figures_of(backbone_run)["mmacs"]["tiny"] == pytest.approx(counted)


def test_a_set_of_labels_is_of_the_channels_together(closed_run):
    """The rows of an array are the channels of one recording, as in ``predict``."""
    classifier = MoEAudioClassifier.load(closed_run)
    rng = np.random.default_rng(0)
    both = np.stack([np.zeros(4000), 0.1 * rng.standard_normal(4000)]).astype(np.float32)
    sets = [classifier.predict_set(one, RATE_HZ) for one in (both, both.T, both.mean(0))]
    assert sets[0] == sets[1] == sets[2]
    assert sets[0][0] == classifier.predict(both, RATE_HZ).label
    with pytest.raises(InputError, match="not one recording"):
        classifier.predict_set(["a.wav", "b.wav"])
