"""What a fitted run says of itself: every file is there, readable, and agrees with the others."""

import csv
import json
from dataclasses import replace

import matplotlib.image
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from xmoe.audio.dataset import load_dataset
from xmoe.base.config import EXPERT_NAMES, SpectroConfig
from xmoe.base.version import VERSION
from xmoe.features.store import build_store
from xmoe.frontend.registry import build_frontend
from xmoe.pipeline.evaluation import evaluate_store
from xmoe.pipeline.outcome import (
    calibrate_run,
    evaluate_run,
    measure_baseline,
    pick_groups,
    table_bytes,
    write_evaluation,
)
from xmoe.predict.predictor import Predictor
from xmoe.run.folder import RunFolder
from xmoe.training.session import read_history

PNG = b"\x89PNG\r\n\x1a\n"
EXPERTS = ("broadband", "low", "high")


@pytest.fixture(scope="module")
def run(fitted):
    return RunFolder(fitted.run_dir)


@pytest.fixture(scope="module")
def metrics(run):
    return json.loads(run.file("metrics.json").read_text())


@pytest.fixture(scope="module")
def traces(run):
    return pq.read_table(run.file("traces.parquet")).to_pylist()


def test_run_folder_holds_every_record_and_no_rest(run):
    assert sorted(path.name for path in run.path.iterdir()) == [
        "architecture.txt",
        "calibration.png",
        "checkpoints",
        "clips.parquet",
        "confusion.png",
        "dataset.json",
        "events.json",
        "expert_usage.json",
        "expert_usage.png",
        "golden.json",
        "history.jsonl",
        "k_histogram.png",
        "learning_curves.png",
        "metrics.json",
        "policy.json",
        "profile.json",
        "quarantine.csv",
        "report.html",
        "run_config.json",
        "samples.parquet",
        "spectro_config.json",
        "tensorboard",
        "traces.parquet",
    ]


def test_figures_have_intervals_and_baselines_beside_them(metrics):
    assert metrics["accuracy"] >= 0.9
    for name in ("accuracy", "macro_f1", "balanced_accuracy", "ece", "baseline_accuracy"):
        low, high = metrics[f"{name}_ci"]
        assert 0 <= low <= metrics[name] <= high <= 1
    assert metrics["majority_accuracy"] == 0.5
    assert metrics["baseline_accuracy"] >= 0.9
    assert metrics["classes"] == ["low", "top"]
    assert (metrics["num_clips"], metrics["epochs"]) == (12, 6)
    assert 0 < metrics["train_minutes"] < 5
    assert set(metrics["accuracy_at_fixed_k"]) == {"0", "1", "2"}


def test_figures_agree_with_the_traces(metrics, traces):
    assert len(traces) == 12
    right = [row["labels"] == [row["answer"]] for row in traces]
    assert metrics["accuracy"] == pytest.approx(np.mean(right))
    assert metrics["mean_k"] == pytest.approx(np.mean([row["k"] for row in traces]))
    counts = np.array(metrics["confusion"])
    assert counts.sum(1).tolist() == [6, 6]
    assert np.trace(counts) == sum(right)


def test_traces_name_the_test_clips_and_repeat_the_answers(fitted, traces, tones):
    assert [row["clip_id"] for row in traces] == [f"{i:02d}.wav" for i in range(4, 60, 5)]
    for row in traces[:4]:
        answer = fitted.predict(tones / row["clip_id"])
        assert answer.label == row["answer"]
        assert answer.probability == pytest.approx(row["probability"], abs=0.02)


def test_usage_agrees_with_the_traces(run, metrics, traces):
    usage = json.loads(run.file("expert_usage.json").read_text())
    assert set(usage["selection_rate"]) == set(EXPERTS)
    assert usage["mean_k"] == metrics["mean_k"]
    assert sum(usage["k_histogram"].values()) == len(traces)
    assert set(usage["by_class"]) == {"low", "top"}
    for name in EXPERTS:
        weights = [e["weight"] for row in traces for e in row["experts"] if e["name"] == name]
        assert usage["mean_weight"][name] == pytest.approx(sum(weights) / len(traces))


def test_settings_agree_with_the_policy(run):
    config = run.read_config()
    policy = json.loads(run.file("policy.json").read_text())
    spectro = run.read_record("spectro_config.json", SpectroConfig)
    assert config.spectro == spectro
    assert (spectro.num_bins, spectro.segment_s) == (16, 0.3)
    assert list(config.model.expert_names) == policy["experts"] == list(EXPERTS)
    assert config.model.k_max == policy["k_max"]
    assert all(choice["reason"] for choice in policy["choices"])
    assert len(config.routing.temperatures) == config.model.k_max + 1
    assert set(config.routing.reasons) == {"windows", "k", "uncertain"}


def test_records_of_the_data_agree_with_it(run, tones):
    profile = json.loads(run.file("profile.json").read_text())
    assert profile["fs_unique"] == {"8000": 60}
    dataset = json.loads(run.file("dataset.json").read_text())
    assert dataset["clips"] == {"train": 36, "val": 12, "test": 12}
    assert (dataset["root"], dataset["task"]) == (str(tones), "single_label")
    assert dataset["metadata"] is None
    assert json.loads(run.file("run_config.json").read_text())["xmoe_version"] == VERSION
    assert pq.read_table(run.file("clips.parquet")).num_rows == 60
    with run.file("quarantine.csv").open(newline="") as handle:
        assert list(csv.reader(handle)) == [["file", "code", "reason", "what_to_do"]]


def test_weights_are_one_file_per_part(run):
    for which in ("best", "last"):
        names = sorted(path.stem for path in run.checkpoint_folder(which).glob("*.safetensors"))
        parts = sorted(f"expert-{name}" for name in EXPERTS)
        assert names == [*parts, "router", "stem", "training"]
        for name in names:
            assert run.load_tensors(name, which)


@pytest.mark.parametrize(
    "name",
    ["calibration", "confusion", "expert_usage", "k_histogram", "learning_curves"],
)
def test_pictures_are_pictures(run, name):
    path = run.file(f"{name}.png")
    assert path.read_bytes().startswith(PNG)
    pixels = matplotlib.image.imread(path)
    assert min(pixels.shape[:2]) >= 200
    assert pixels.std() > 0.01


def test_history_and_events_cover_every_epoch(run):
    assert [row["epoch"] for row in read_history(run)] == [1, 2, 3, 4, 5, 6]
    (events,) = run.file("tensorboard").iterdir()
    assert events.name.startswith("events.out.tfevents")


@pytest.fixture(scope="module")
def dataset(tones):
    return load_dataset(tones)


@pytest.fixture(scope="module")
def stores(fitted, dataset, tmp_path_factory):
    """The stores of the three splits, built again."""
    root = tmp_path_factory.mktemp("stores")
    frontend = build_frontend(fitted.predictor.config.spectro)
    return {
        split: build_store(
            root / split, dataset, dataset.split(split), frontend, by_segment=split != "train"
        )[0]
        for split in ("train", "val", "test")
    }


@pytest.fixture
def copied(run, tmp_path):
    """A run of the same weights as after training, before anything was measured."""
    folder = RunFolder(tmp_path / "run")
    folder.write_record("run_config.json", run.read_config())
    parts = [path.stem for path in run.checkpoint_folder().glob("*.safetensors")]
    folder.save_checkpoint(
        "one", {part: run.load_tensors(part) for part in parts}, {}, which=("best", "last")
    )
    return folder


def test_budget_decides_how_many_experts_answer(copied, dataset, stores):
    calls = []
    for budget in (0, 2):
        calibrate_run(copied, stores["val"], budget, progress=lambda *call: calls.append(call))
        metrics = evaluate_run(copied, dataset, stores, progress=lambda *call: calls.append(call))
        assert metrics["mean_k"] == pytest.approx(budget, abs=0.25)
        assert copied.read_config().routing.budget == budget
    stages = [call[0] for call in calls]
    assert stages.index("calibrate") < stages.index("evaluate") < stages.index("baseline")
    assert not copied.file("learning_curves.png").exists()
    assert metrics["epochs"] == 0


def test_groups_are_resampled_where_there_are_ten(stores):
    test = stores["test"]
    pairs = {clip_id: f"g{i // 2}" for i, clip_id in enumerate(test.clip_ids)}
    assert pick_groups(test, pairs) is None
    assert pick_groups(test, {}) == list(test.clip_ids)
    assert pick_groups(test, {test.clip_ids[0]: "g"})[:2] == ["g", test.clip_ids[1]]


def test_baseline_tells_the_tones_apart(copied, dataset, stores):
    figures = measure_baseline(copied, copied.read_config(), dataset, stores["test"])
    assert figures["baseline_accuracy"] >= 0.9
    low, high = figures["baseline_accuracy_ci"]
    assert low <= figures["baseline_accuracy"] <= high
    assert set(figures) == {
        "baseline_accuracy",
        "baseline_accuracy_ci",
        "baseline_macro_f1",
        "baseline_macro_f1_ci",
    }


def test_baseline_cannot_tell_noise_apart(copied, dataset, stores):
    """Labels that mean nothing are scored near chance, so the baseline is no leak."""
    order = np.random.default_rng(7).permutation(len(dataset.examples)) % 2
    examples = [
        replace(example, labels=(dataset.classes[index],))
        for example, index in zip(dataset.examples, order, strict=True)
    ]
    shuffled = replace(dataset, examples=tuple(examples))
    figures = measure_baseline(copied, copied.read_config(), shuffled, stores["test"])
    assert 0.1 <= figures["baseline_accuracy"] <= 0.9


def test_evaluation_is_written_with_what_else_is_known(copied, stores, tmp_path):
    predictor = Predictor.load(copied.path)
    evaluation = evaluate_store(predictor, stores["val"], fixed_k=False)
    metrics = write_evaluation(tmp_path / "out", predictor, evaluation, extra={"split": "val"})
    written = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert written["split"] == metrics["split"] == "val"
    assert written["accuracy"] == evaluation.metrics["accuracy"]
    assert pq.read_table(tmp_path / "out" / "traces.parquet").equals(evaluation.traces)


def test_table_survives_as_parquet():
    table = pa.table({"name": list(EXPERT_NAMES), "weight": np.linspace(0, 1, 8)})
    assert pq.read_table(pa.BufferReader(table_bytes(table))).equals(table)
