"""The front door: what it answers, refuses, prints, draws and remembers."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile as sf
import torch
from pydantic import ValidationError

from xmoe.base.config import TrainConfig
from xmoe.base.errors import AudioError, ConfigError, DatasetError, InputError, RunFolderError
from xmoe.explain.subject import surest_segment
from xmoe.pipeline import classifier as estimator
from xmoe.pipeline.architecture import describe_usage
from xmoe.pipeline.classifier import MoEAudioClassifier
from xmoe.policy.policy import PolicyOverrides
from xmoe.run.folder import RunFolder

RATE_HZ = 8000
PNG = b"\x89PNG\r\n\x1a\n"


def plain(answer):
    return answer.model_dump(exclude={"seconds"})


@pytest.fixture(scope="module")
def loaded(fitted):
    return MoEAudioClassifier.load(fitted.run_dir, device="cpu")


def test_loaded_classifier_answers_exactly_as_the_fitted_one(fitted, loaded, tones, tone):
    for index in range(6):
        path = tones / f"{index:02d}.wav"
        assert plain(loaded.predict(path)) == plain(fitted.predict(path))
        samples = tone(200 + index, "top")
        assert plain(loaded.predict(samples, RATE_HZ)) == plain(fitted.predict(samples, RATE_HZ))


@pytest.mark.parametrize("asked", [{"k": -1}, {"k_max": -1}, {"k": 1.5}, {"k_max": "1"}])
def test_what_counts_no_experts_is_refused(loaded, tone, asked):
    (name,) = asked
    with pytest.raises(InputError, match=f"{name} is "):
        loaded.predict(tone(200, "top"), RATE_HZ, **asked)


def test_the_most_bounds_the_number_that_is_asked_for(loaded, tone):
    assert loaded.predict(tone(200, "top"), RATE_HZ, k=2, k_max=1).k == 1.0


def test_loaded_classifier_knows_its_settings(fitted, loaded):
    assert loaded.task == fitted.task == "single_label"
    assert loaded.budget == "accuracy"
    assert loaded.classes_.tolist() == ["low", "top"]
    assert loaded.run_dir == fitted.run_dir
    assert repr(loaded).startswith(
        "MoEAudioClassifier(task='single_label', budget='accuracy', run="
    )


@pytest.mark.parametrize(
    ("given", "rate"), [({"learning_rate": 0.002}, 0.002), ({}, TrainConfig().learning_rate)]
)
def test_learning_rate_is_a_setting_of_training(monkeypatch, fitted, tmp_path, given, rate):
    seen = []
    monkeypatch.setattr(
        estimator,
        "fit_run",
        lambda request, progress: seen.append(request) or RunFolder(fitted.run_dir),
    )
    MoEAudioClassifier(device="cpu").fit(tmp_path, out_dir=tmp_path, strict=True, **given)
    assert seen[0].train.learning_rate == rate
    assert (seen[0].strict, seen[0].policy) == (True, "race")


def test_wishes_and_networks_are_passed_on(monkeypatch, fitted, tmp_path, tiny_card):
    seen = []
    monkeypatch.setattr(
        estimator,
        "fit_run",
        lambda request, progress: seen.append(request) or RunFolder(fitted.run_dir),
    )
    model = MoEAudioClassifier(device="cpu")
    model.fit(tmp_path, out_dir=tmp_path, overrides={"k_max": 1}, backbones=[tiny_card])
    assert seen[0].overrides == PolicyOverrides(k_max=1)
    assert [spec.name for spec in seen[0].backbones] == ["tiny"]
    with pytest.raises(ValidationError, match="k_most"):
        model.fit(tmp_path, out_dir=tmp_path, overrides={"k_most": 1})


def test_a_long_recording_has_events(fitted, tone, tmp_path):
    parts = [tone(400 + index, "low" if index < 5 else "top") for index in range(10)]
    sf.write(tmp_path / "long.wav", np.concatenate(parts), RATE_HZ)
    found = fitted.find_events(tmp_path / "long.wav", 0.1, threshold=0.5)
    assert [event.label for event in found.events] == ["low", "top"]
    border_s = sum(map(len, parts[:5])) / RATE_HZ
    assert found.events[1].start_s == pytest.approx(border_s, abs=0.2)
    assert found.draw("long").get_suptitle() == f"long: 2 events in {found.duration_s:.0f} s"
    with pytest.raises(ConfigError, match="no pretrained network is among"):
        fitted.find_events(tmp_path / "long.wav", 0.1, wake=0.2)


@pytest.mark.parametrize("budget", ["20ms", "99%", "latency", 1.5])
def test_a_run_of_any_budget_is_loaded(copied, budget):
    folder = RunFolder(copied)
    config = folder.read_config()
    routing = config.routing.model_copy(update={"budget": budget})
    folder.write_record("run_config.json", config.model_copy(update={"routing": routing}))
    assert MoEAudioClassifier.load(copied).budget == budget


def test_new_tones_are_told_apart(fitted, tone):
    for index in range(300, 310):
        assert fitted.predict(tone(index, "low"), RATE_HZ).label == "low"
        assert fitted.predict(tone(index, "top"), RATE_HZ).label == "top"


def test_file_is_answered_as_its_samples_are(fitted, tones):
    path = tones / "04.wav"
    samples, rate = sf.read(path, dtype="float32")
    expected = plain(fitted.predict(samples, rate))
    assert plain(fitted.predict(path)) == expected
    assert plain(fitted.predict(str(path))) == expected


def test_channels_are_mixed_down(fitted, tone):
    mono = tone(1, "top")
    stereo = np.stack([mono * 1.5, mono * 0.5])
    expected = fitted.predict(mono, RATE_HZ).probabilities
    assert fitted.predict(stereo, RATE_HZ).probabilities == pytest.approx(expected, abs=1e-4)


def test_number_of_experts_can_be_fixed_or_bounded(fitted, tones):
    path = tones / "00.wav"
    assert fitted.predict(path, k=0).k == 0
    assert fitted.predict(path, k=2).k == 2
    assert len(fitted.predict(path, k=2).experts) == 2
    assert fitted.predict(path, k_max=0).k == 0


def test_probabilities_are_rows_in_the_order_given(fitted, tone, tones):
    audios = [tones / "05.wav", tones / "00.wav", str(tones / "06.wav")]
    rows = fitted.predict_proba(audios)
    assert rows.shape == (3, 2)
    assert rows.sum(1) == pytest.approx([1.0, 1.0, 1.0])
    assert fitted.classes_[rows.argmax(1)].tolist() == ["top", "low", "top"]
    answer = fitted.predict(tones / "00.wav")
    assert rows[1].tolist() == [answer.probabilities[name] for name in fitted.classes_]
    arrays = fitted.predict_proba((tone(i, "low") for i in range(2)), RATE_HZ)
    assert arrays.shape == (2, 2)


def test_one_recording_is_one_row_in_whatever_form_it_comes(fitted, tones):
    path = tones / "05.wav"
    samples, rate = sf.read(path, dtype="int16")
    both = np.stack([samples, samples], 1)
    expected = fitted.predict_proba([path])
    with path.open("rb") as file:
        for one in (path, str(path), path.read_bytes(), file):
            assert np.array_equal(fitted.predict_proba(one), expected)
    for numbers in (samples, both, torch.from_numpy(samples)):
        assert fitted.predict_proba(numbers, rate) == pytest.approx(expected, abs=1e-6)
    rows = fitted.predict_proba(np.stack([samples, samples[::-1]]), rate)
    assert rows.shape == (2, 2)


def test_silence_and_clipping_are_told(fitted, tone, tmp_path):
    samples = tone(1, "top")
    assert fitted.predict(samples, RATE_HZ).warnings == ()
    opposite, clipped = np.stack([samples, -samples], 1), np.sign(samples)
    for name, recording, words in (("a", opposite, "silent"), ("b", clipped, "clipped")):
        sf.write(tmp_path / f"{name}.wav", recording, RATE_HZ)
        for answer in (
            fitted.predict(recording, RATE_HZ),
            fitted.predict(tmp_path / f"{name}.wav"),
        ):
            assert [one.split(":")[0] for one in answer.warnings] == [words]


def test_no_recordings_are_no_rows(fitted):
    assert fitted.predict_proba([]).shape == (0, 2)


def test_evaluation_repeats_the_figures_of_the_run(fitted, loaded, tones):
    kept = json.loads((fitted.run_dir / "metrics.json").read_text())
    figures = loaded.evaluate(tones, split="test")
    for name in ("accuracy", "accuracy_ci", "mean_k", "nll", "ece", "majority_accuracy"):
        assert figures[name] == kept[name], name
    assert (figures["split"], figures["num_quarantined"]) == ("test", 0)
    assert loaded.score(tones) == kept["accuracy"]


def test_evaluation_is_written_where_asked(fitted, tones, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in fitted.run_dir.iterdir()}
    figures = fitted.evaluate(tones, split="val", out_dir=tmp_path / "val")
    written = json.loads((tmp_path / "val" / "metrics.json").read_text())
    assert written["accuracy"] == figures["accuracy"]
    assert (written["split"], written["num_clips"]) == ("val", 12)
    assert (tmp_path / "val" / "traces.parquet").is_file()
    assert {path: path.stat().st_mtime_ns for path in fitted.run_dir.iterdir()} == before


def test_evaluation_makes_the_split_that_training_made(write_tones, small, undrawn, tmp_path):
    root = write_tones(tmp_path / "set")
    manifest = root / "metadata.csv"
    lines = [line.split(",") for line in manifest.read_text().splitlines()]
    manifest.write_text("\n".join(f"{path},{label}" for path, _, label in lines) + "\n")
    options = small | {"epochs": 1}
    model = MoEAudioClassifier(device="cpu", seed=5).fit(root, out_dir=tmp_path / "run", **options)
    model.evaluate(root, split="test", out_dir=tmp_path / "test")
    rows = [
        pq.read_table(path / "traces.parquet") for path in (tmp_path / "run", tmp_path / "test")
    ]
    assert rows[0]["clip_id"].to_pylist() == rows[1]["clip_id"].to_pylist()


def test_unknown_labels_are_refused(fitted, write_tones, tmp_path):
    root = write_tones(tmp_path, clips=10)
    text = (root / "metadata.csv").read_text().replace("test,top", "test,whale")
    (root / "metadata.csv").write_text(text)
    with pytest.raises(DatasetError, match="does not know the labels whale") as raised:
        fitted.evaluate(root)
    assert "low, top" in raised.value.mend


def test_split_without_recordings_is_refused(fitted, write_tones, tmp_path):
    root = write_tones(tmp_path, clips=20)
    for index in (4, 9, 14, 19):
        (root / f"{index:02d}.wav").write_bytes(b"gone bad")
    with pytest.raises(DatasetError, match="no readable recording"):
        fitted.evaluate(root)
    with pytest.raises(DatasetError, match="no split 'holdout'"):
        fitted.evaluate(root, split="holdout")


def test_bad_recordings_are_counted_in_an_evaluation(fitted, write_tones, tmp_path):
    root = write_tones(tmp_path, clips=20)
    (root / "04.wav").write_bytes(b"gone bad")
    figures = fitted.evaluate(root)
    assert (figures["num_quarantined"], figures["num_clips"]) == (1, 3)


def test_explanation_is_five_pictures_and_numbers(fitted, tones, tmp_path):
    record = fitted.explain(tones / "05.wav", save_dir=tmp_path)
    names = ("gradcam", "saliency_router", "patch_routing", "why_experts", "why_k")
    for name in (f"{name}.png" for name in names):
        data = (tmp_path / name).read_bytes()
        assert data.startswith(PNG)
        assert len(data) > 10_000
    written = json.loads((tmp_path / "explanation.json").read_text())
    assert written == json.loads(json.dumps(record))
    assert written["answer"] == fitted.predict(tones / "05.wav").label == "top"


def test_samples_are_explained_too(fitted, tone, tmp_path):
    record = fitted.explain(tone(0, "low"), save_dir=tmp_path, sample_rate_hz=RATE_HZ)
    assert record["answer"] == "low"


def test_explanations_of_a_split_are_measured(fitted, tones, tmp_path):
    figures = fitted.evaluate(tones, out_dir=tmp_path, explained=3)
    written = json.loads((tmp_path / "explanations.json").read_text())
    assert written == json.loads(json.dumps(figures["explanations"]))
    assert written["num_clips"] == 3
    assert "explanations" not in json.loads((tmp_path / "metrics.json").read_text())


def test_surest_segment_of_a_long_recording_is_explained(fitted, tone, tmp_path):
    noise = 0.05 * np.random.default_rng(0).standard_normal(8 * RATE_HZ).astype(np.float32)
    event = tone(3, "top")
    noise[5 * RATE_HZ : 5 * RATE_HZ + len(event)] = event
    specs = fitted.predictor.hear(noise, RATE_HZ)[0]
    segment = surest_segment(fitted.predictor, specs)
    start_s = fitted.predictor.cut(noise, RATE_HZ)[segment].start_s
    top = fitted.predictor.answer_segments(specs).logits.softmax(1)
    answer = int(
        fitted.predictor.probabilities(fitted.predictor.answer_segments(specs).logits).argmax()
    )
    assert float(top[segment, answer]) == float(top[:, answer].max())
    if fitted.classes_[answer] == "top":
        assert 4.7 <= start_s <= 5.5


@pytest.mark.parametrize(
    ("call", "arguments"),
    [
        ("predict", ["a.wav"]),
        ("predict_proba", [["a.wav"]]),
        ("evaluate", ["set"]),
        ("print_architecture", []),
        ("print_expert_usage", []),
    ],
)
def test_classifier_that_is_not_fitted_says_so(call, arguments):
    model = MoEAudioClassifier()
    with pytest.raises(ConfigError, match="not fitted"):
        getattr(model, call)(*arguments)
    assert repr(model).endswith("not fitted)")


@pytest.mark.parametrize(
    "settings", [{"explainability": "tea leaves"}, {"budget": "cheap"}, {"budget": -1}]
)
def test_settings_that_cannot_hold_are_refused_at_once(settings):
    with pytest.raises(ConfigError):
        MoEAudioClassifier(**settings)


@pytest.mark.parametrize("budget", ["latency", "20ms", "99%", 1.5])
def test_every_budget_of_a_run_is_one_of_a_classifier(budget):
    assert MoEAudioClassifier(budget=budget).budget == budget


def test_method_of_explanation_must_exist(fitted, tones, tmp_path):
    with pytest.raises(ConfigError, match="tea leaves"):
        fitted.explain(tones / "00.wav", save_dir=tmp_path, method="tea leaves")


def test_missing_and_broken_files_are_audio_errors(fitted, tmp_path):
    with pytest.raises(AudioError) as raised:
        fitted.predict(tmp_path / "none.wav")
    assert raised.value.code == "missing"
    (tmp_path / "bad.wav").write_bytes(b"nonsense" * 20)
    with pytest.raises(AudioError) as raised:
        fitted.predict(tmp_path / "bad.wav")
    assert raised.value.code == "not_audio"


def test_architecture_and_usage_are_printed(fitted, capsys):
    fitted.print_architecture()
    assert capsys.readouterr().out == (fitted.run_dir / "architecture.txt").read_text()
    fitted.print_expert_usage()
    usage = json.loads((fitted.run_dir / "expert_usage.json").read_text())
    assert capsys.readouterr().out == describe_usage(usage)


def test_run_that_was_stopped_has_nothing_to_print(fitted, tmp_path):
    folder, whole = RunFolder(tmp_path), RunFolder(fitted.run_dir)
    folder.write_record("run_config.json", whole.read_config())
    parts = [path.stem for path in whole.checkpoint_folder().glob("*.safetensors")]
    tensors = {part: whole.load_tensors(part) for part in parts}
    folder.save_checkpoint("one", tensors, {}, which=("best",))
    model = MoEAudioClassifier.load(tmp_path)
    for call in (model.print_architecture, model.print_expert_usage):
        with pytest.raises(RunFolderError, match="no such file"):
            call()


def test_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(RunFolderError, match="no such file"):
        MoEAudioClassifier.load(tmp_path / "nothing")
