"""The whole record: names, baseline, tables, intervals, degenerate sets."""

import json

import numpy as np
import pytest

from xmoe.base.task import MultiLabel, SingleLabel
from xmoe.metrics import compute_metrics

P = np.array([[0.8, 0.1, 0.1], [0.3, 0.6, 0.1], [0.7, 0.2, 0.1], [0.9, 0.05, 0.05]])
Y = np.array([0, 1, 1, 0])


def test_the_record_names_every_figure_with_its_interval():
    record = compute_metrics(P, Y, task=SingleLabel(), num_bootstrap=50)
    for name in ("accuracy", "macro_f1", "balanced_accuracy", "ece", "nll", "brier"):
        low, high = record[f"{name}_ci"]
        assert low <= high
    assert record["accuracy"] == 0.75
    assert record["majority_accuracy"] == 0.5
    assert record["num_clips"] == 4
    json.dumps(record, allow_nan=False)


def test_confusion_has_truth_by_row():
    record = compute_metrics(P, Y, task=SingleLabel(), num_bootstrap=0)
    assert record["confusion"] == [[2, 0, 0], [1, 1, 0], [0, 0, 0]]
    assert "accuracy_ci" not in record


def test_a_class_without_clips_has_no_recall_but_a_row():
    rows = compute_metrics(P, Y, task=SingleLabel(), num_bootstrap=0)["per_class"]
    assert [row["support"] for row in rows] == [2, 2, 0]
    assert rows[1] == {
        "class_id": 1,
        "support": 2,
        "predicted": 1,
        "precision": 1.0,
        "recall": 0.5,
        "f1": pytest.approx(2 / 3),
    }
    assert rows[2]["recall"] is None


def test_several_labels_add_average_precision_and_their_own_baseline():
    truth = np.array([[1, 0], [1, 0], [1, 1]])
    p = np.array([[0.9, 0.2], [0.8, 0.1], [0.7, 0.6]])
    record = compute_metrics(p, truth, task=MultiLabel(), num_bootstrap=20)
    assert record["map"] == 1.0
    assert record["accuracy"] == 1.0
    # the constant answer {first} is right twice and half right once
    assert record["majority_accuracy"] == pytest.approx(2.5 / 3)
    assert record["confusion"] == [[[0, 0], [0, 3]], [[2, 0], [0, 1]]]


def test_the_baseline_names_the_commonest_label_where_none_is_in_most_clips():
    truth = np.array([[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1], [1, 0, 1], [0, 0, 0]])
    record = compute_metrics(np.full(truth.shape, 0.1), truth, task=MultiLabel(), num_bootstrap=0)
    assert record["majority_accuracy"] == pytest.approx((1 + 1 + 0.5) / 7)


def test_one_clip_is_enough_for_a_record():
    record = compute_metrics(P[:1], Y[:1], task=SingleLabel(), num_bootstrap=20)
    assert record["accuracy"] == 1.0
    assert record["accuracy_ci"] == [pytest.approx(0.2065, abs=1e-3), 1.0]
    assert "nll_ci" not in record


def test_the_same_seed_gives_the_same_intervals():
    first, second = (compute_metrics(P, Y, task=SingleLabel(), seed=4) for _ in range(2))
    assert first == second


def test_nan_probabilities_are_refused():
    with pytest.raises(ValueError, match="finite"):
        compute_metrics(np.full((2, 2), np.nan), [0, 1], task=SingleLabel())
