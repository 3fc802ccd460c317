"""Store -> metrics, usage and traces: counts and sums that must agree with each other."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from tests.fixtures.runs import tiny_config, tiny_model
from xmoe.features.segments import eval_segments
from xmoe.features.store import SpectrogramStore
from xmoe.pipeline.evaluation import _Clips, evaluate_store, mean_macs, measure_usage
from xmoe.predict.predictor import Predictor

EXPERTS = ("broadband", "low", "transient", "high_band")
CLASSES = ("click", "tone", "sweep")
FRAMES = (20, 41, 41, 41, 41, 41, 35, 41, 41, 40, 41, 33, 41)


def make_predictor(**changes):
    """Return an untrained predictor with weights of order one."""
    routing = {"k_price": 0.0, "uncertain_below": 0.6}
    config = tiny_config(CLASSES, routing=routing, **changes)
    return Predictor(config, tiny_model(config, seed=1, std=0.5))


def make_store():
    """Return twelve clips of noise with loud bands, the third of two segments."""
    rng = np.random.default_rng(0)
    blocks = []
    for index, frames in enumerate(FRAMES):
        block = rng.normal(-4.0, 0.3, (frames, 16))
        block[5:15, index] += 3.0
        blocks.append(block.astype(np.float16))
    offsets = np.concatenate([[0], np.cumsum(FRAMES)])
    firsts = np.array([0, 1, 2, *range(4, 14)])
    targets = np.arange(len(firsts) - 1) % 3
    names = tuple(f"{index:02d}.wav" for index in range(len(targets)))
    return SpectrogramStore(np.concatenate(blocks), offsets, firsts, targets, names)


@pytest.fixture(scope="module")
def predictor():
    return make_predictor()


@pytest.fixture(scope="module")
def store():
    return make_store()


@pytest.fixture(scope="module")
def evaluation(predictor, store):
    return evaluate_store(predictor, store)


@pytest.fixture(scope="module")
def answers(predictor, store):
    """What the predictor says of each clip by itself."""
    said = []
    for index in range(len(store)):
        specs = eval_segments(store, predictor.frontend, [index]).spec
        said.append(predictor.summarise(predictor.answer_segments(specs)))
    return said


def test_clips_are_answered_as_the_predictor_answers(evaluation, answers):
    rows = evaluation.traces["probabilities"].to_pylist()
    assert rows == [list(answer.probabilities.values()) for answer in answers]
    assert evaluation.traces["k"].to_pylist() == [answer.k for answer in answers]


def test_metrics_count_right_answers_and_experts(evaluation, answers, store):
    right = [
        answer.label_id == target for answer, target in zip(answers, store.targets, strict=True)
    ]
    metrics = evaluation.metrics
    assert metrics["accuracy"] == pytest.approx(np.mean(right))
    assert metrics["mean_k"] == pytest.approx(np.mean([answer.k for answer in answers]))
    assert metrics["num_clips"] == 12
    assert 0 < metrics["mean_saliency_share"] <= 1
    low, high = metrics["accuracy_ci"]
    assert low <= metrics["accuracy"] <= high


def test_fixed_k_figures_are_those_of_fixed_k(evaluation, predictor, store):
    figures = evaluation.metrics["accuracy_at_fixed_k"]
    assert set(figures) == {"0", "1", "2"}
    for k, figure in figures.items():
        right = 0
        for index, target in enumerate(store.targets):
            specs = eval_segments(store, predictor.frontend, [index]).spec
            logits = predictor.answer_segments(specs, k=int(k)).logits
            right += int(predictor.probabilities(logits).argmax() == target)
        assert figure == pytest.approx(right / 12)


def test_fixed_k_can_be_left_out(predictor, store):
    assert "accuracy_at_fixed_k" not in evaluate_store(predictor, store, fixed_k=False).metrics


def test_groups_widen_the_interval(predictor, store):
    alone = evaluate_store(predictor, store, fixed_k=False).metrics
    groups = [f"g{i // 6}" for i in range(12)]
    grouped = evaluate_store(predictor, store, groups=groups, fixed_k=False).metrics
    assert grouped["accuracy"] == alone["accuracy"]
    assert grouped["accuracy_ci"] != alone["accuracy_ci"]


def test_progress_counts_clips(predictor, store):
    calls = []
    evaluate_store(predictor, store, fixed_k=False, progress=lambda *call: calls.append(call))
    assert calls == [("evaluate", done, 12) for done in range(1, 13)]


def test_empty_store_is_refused(predictor, store):
    none = np.zeros(1, np.int64)
    empty = SpectrogramStore(store.values[:0], none, none, store.targets[:0], ())
    with pytest.raises(ValueError, match="no clips"):
        evaluate_store(predictor, empty)


def test_usage_is_the_mean_over_clips(evaluation, answers):
    usage = evaluation.usage
    for name in EXPERTS:
        shares = [use.share for a in answers for use in a.experts if use.name == name]
        weights = [use.weight for a in answers for use in a.experts if use.name == name]
        assert usage["selection_rate"][name] == pytest.approx(sum(shares) / 12, abs=1e-5)
        assert usage["mean_weight"][name] == pytest.approx(sum(weights) / 12, abs=1e-5)
    assert usage["selection_rate"]["high_band"] == 0.0
    assert sum(usage["selection_rate"].values()) == pytest.approx(usage["mean_k"])
    assert sum(usage["k_histogram"].values()) == 12


def clips_of(k, asked):
    asked = np.asarray(asked, float)
    weights = asked / np.maximum(asked.sum(1, keepdims=True), 1)
    return _Clips(np.zeros((len(k), 2)), np.asarray(k, float), weights, asked, np.ones(len(k)))


def test_histogram_counts_clips_by_k():
    usage = measure_usage(
        clips_of([0, 1, 1, 1.6], [[0, 0], [1, 0], [0, 1], [1, 0.6]]),
        np.eye(2)[[0, 0, 1, 1]],
        ("low", "high"),
        ("a", "b"),
    )
    assert usage["k_histogram"] == {"0": 1, "1": 2, "2": 1}
    assert usage["mean_k"] == pytest.approx(0.9)
    assert usage["selection_rate"] == pytest.approx({"low": 0.5, "high": 0.4})
    assert usage["by_class"]["a"]["mean_k"] == pytest.approx(0.5)
    assert usage["by_class"]["b"]["selection_rate"] == pytest.approx({"low": 0.5, "high": 0.8})


@pytest.mark.parametrize(
    ("asked", "balance"),
    [
        ([[1, 1], [1, 1]], 1.0),
        ([[1, 0], [1, 0]], 0.0),
        ([[0, 0], [0, 0]], 0.0),
        ([[1, 0], [1, 1]], (np.log(3) - 2 / 3 * np.log(2)) / np.log(2)),
    ],
)
def test_load_balance_is_relative_entropy(asked, balance):
    clips = clips_of(np.sum(asked, 1), asked)
    usage = measure_usage(clips, np.eye(2), ("low", "high"), ("a", "b"))
    assert usage["load_balance"] == pytest.approx(balance, abs=1e-12)


def test_one_expert_is_balanced_and_absent_classes_are_left_out():
    usage = measure_usage(clips_of([1], [[1]]), np.eye(2)[[1]], ("low",), ("a", "b"))
    assert usage["load_balance"] == 1.0
    assert list(usage["by_class"]) == ["b"]


def test_class_of_several_labels_counts_every_clip_that_has_it():
    rows = np.array([[1.0, 1.0], [0.0, 1.0]])
    usage = measure_usage(clips_of([2, 0], [[1, 1], [0, 0]]), rows, ("low", "high"), ("a", "b"))
    assert usage["by_class"]["a"]["mean_k"] == 2.0
    assert usage["by_class"]["b"]["mean_k"] == 1.0


def check_traces(evaluation, answers, store):
    rows = evaluation.traces.to_pylist()
    for row, answer, clip_id in zip(rows, answers, store.clip_ids, strict=True):
        assert row["clip_id"] == clip_id
        assert row["answer"] == answer.label
        assert row["probability"] == answer.probability
        assert row["probabilities"] == list(answer.probabilities.values())
        assert row["entropy"] == pytest.approx(answer.entropy)
        assert row["uncertain"] == answer.uncertain
        assert row["k"] == answer.k
        said = {expert["name"]: expert["weight"] for expert in row["experts"]}
        expected = {use.name: use.weight for use in answer.experts}
        assert said == pytest.approx(expected, abs=1e-5)
        assert 0 < row["saliency_share_sent"] <= 1 + 1e-6


def test_traces_repeat_the_answers(evaluation, answers, store):
    check_traces(evaluation, answers, store)
    assert evaluation.traces["labels"].to_pylist() == [[CLASSES[i]] for i in store.targets]


def test_traces_have_a_schema(evaluation):
    kinds = {field.name: field.type for field in evaluation.traces.schema}
    assert kinds == {
        "clip_id": pa.string(),
        "labels": pa.list_(pa.string()),
        "answer": pa.string(),
        "probability": pa.float64(),
        "entropy": pa.float64(),
        "uncertain": pa.bool_(),
        "k": pa.float64(),
        "experts": pa.list_(pa.struct([("name", pa.string()), ("weight", pa.float64())])),
        "saliency_share_sent": pa.float64(),
        "probabilities": pa.list_(pa.float64()),
    }


def test_several_labels_are_evaluated_and_traced():
    predictor = make_predictor(task="multi_label")
    rows = np.array([[1, 0, 1], [0, 0, 0], [0, 1, 0]] * 4, np.float32)
    store = replace(make_store(), targets=rows)
    evaluation = evaluate_store(predictor, store)
    said = []
    for index in range(len(store)):
        specs = eval_segments(store, predictor.frontend, [index]).spec
        said.append(predictor.summarise(predictor.answer_segments(specs)))
    check_traces(evaluation, said, store)
    assert evaluation.traces["labels"].to_pylist()[:3] == [["click", "sweep"], [], ["tone"]]
    assert {"map", "map_ci", "macro_f1"} <= set(evaluation.metrics)


def test_cost_of_a_mean_answer_is_stem_and_experts_by_their_rate(predictor):
    rates = {"broadband": 0.5, "low": 0.25, "transient": 0.0, "high_band": 0.0}
    macs = mean_macs(predictor, {"selection_rate": rates})
    assert set(macs) == {"stem", "broadband", "low", "transient", "mean_answer"}
    expected = macs["stem"] + 0.5 * macs["broadband"] + 0.25 * macs["low"]
    assert macs["mean_answer"] == pytest.approx(expected)
    # The stem: 5x5 and two 3x3 convolutions on maps of 8 x 21 and 4 x 11, and its head.
    convolutions = 8 * 21 * 4 * 25 + 4 * 11 * (8 * 4 * 9 + 8 * 8 * 9)
    assert macs["stem"] == pytest.approx((convolutions + 11 * 3 * 32) / 1e6)
