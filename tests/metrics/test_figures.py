"""Figures against hand-computed values and scikit-learn as the slow oracle."""

import numpy as np
import pytest
from sklearn import metrics as oracle

from xmoe.base.task import MultiLabel, SingleLabel
from xmoe.metrics.figures import bin_of, measure, prepare_clips

ONE, MANY = SingleLabel(), MultiLabel()


def figures_of(p, targets, task=ONE, *, weights=None):
    clips = prepare_clips(p, targets, task)
    weights = np.ones((1, len(p))) if weights is None else weights
    return {name: values.tolist() for name, values in measure(clips, weights).items()}


def random_single(rng, n=200, classes=5):
    p = rng.dirichlet(np.ones(classes), n)
    targets = rng.integers(0, classes, n)
    return p, targets


def random_multi(rng, n=200, labels=4):
    p = rng.uniform(0, 1, (n, labels)).round(1)  # rounding makes ties
    return p, (rng.uniform(0, 1, (n, labels)) < p).astype(float)


def test_single_label_figures_agree_with_scikit_learn(rng):
    p, targets = random_single(rng)
    said = p.argmax(1)
    found = figures_of(p, targets)
    assert found["accuracy"] == [pytest.approx(oracle.accuracy_score(targets, said))]
    assert found["macro_f1"] == [pytest.approx(oracle.f1_score(targets, said, average="macro"))]
    expected = oracle.balanced_accuracy_score(targets, said)
    assert found["balanced_accuracy"] == [pytest.approx(expected)]
    assert found["nll"] == [pytest.approx(oracle.log_loss(targets, p))]
    assert found["brier"] == [pytest.approx(((p - np.eye(5)[targets]) ** 2).sum(1).mean())]
    assert "map" not in found


def test_multi_label_figures_agree_with_scikit_learn(rng):
    p, truth = random_multi(rng)
    said = (p >= 0.5).astype(float)
    found = figures_of(p, truth, MANY)
    overlap = oracle.jaccard_score(truth, said, average="samples", zero_division=1.0)
    assert found["accuracy"] == [pytest.approx(overlap)]
    assert found["macro_f1"] == [pytest.approx(oracle.f1_score(truth, said, average="macro"))]
    assert found["map"] == [pytest.approx(oracle.average_precision_score(truth, p))]
    balanced = np.mean([oracle.balanced_accuracy_score(truth[:, c], said[:, c]) for c in range(4)])
    assert found["balanced_accuracy"] == [pytest.approx(balanced)]


def test_weights_count_clips_as_if_they_were_repeated(rng):
    p, truth = random_multi(rng, n=30)
    counts = rng.integers(0, 4, 30)
    weighted = figures_of(p, truth, MANY, weights=counts[None].astype(float))
    repeated = figures_of(np.repeat(p, counts, 0), np.repeat(truth, counts, 0), MANY)
    assert weighted == {name: pytest.approx(values) for name, values in repeated.items()}


def test_ece_of_a_perfectly_calibrated_predictor_is_zero():
    p = np.tile([0.75, 0.25], (8, 1))
    targets = [0, 0, 0, 1, 0, 0, 0, 1]  # right in exactly three of four
    assert figures_of(p, targets)["ece"] == [pytest.approx(0.0, abs=1e-12)]


def test_ece_of_a_constant_predictor_is_the_share_it_gets_wrong():
    p = np.tile([1.0, 0.0], (10, 1))
    assert figures_of(p, [0] * 7 + [1] * 3)["ece"] == [pytest.approx(0.3)]


def test_ece_by_hand_over_two_bins():
    # two clips at 0.9, one right: |1 - 1.8| / 4; two at 0.6, both right: |2 - 1.2| / 4
    p = [[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.6, 0.4]]
    assert figures_of(p, [0, 1, 0, 0])["ece"] == [pytest.approx(0.4)]


def test_ece_of_several_labels_judges_every_decision():
    p = [[0.8, 0.1], [0.8, 0.1]]
    truth = [[1, 0], [0, 0]]  # at 0.8 one of two is right, at 0.1 none of two
    assert figures_of(p, truth, MANY)["ece"] == [pytest.approx((0.6 + 0.2) / 4)]


def test_a_class_that_does_not_occur_is_left_out_of_means():
    p = [[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.7, 0.2, 0.1]]
    found = figures_of(p, [0, 1, 1])
    assert found["balanced_accuracy"] == [pytest.approx((1 + 0.5) / 2)]
    assert found["macro_f1"] == [pytest.approx(2 / 3)]


def test_nothing_said_where_nothing_was_true_is_right():
    found = figures_of([[0.1, 0.2]], [[0, 0]], MANY)
    assert found["accuracy"] == [1.0]
    assert found["map"] == [0.0]


def test_confidence_one_falls_into_the_last_bin():
    assert bin_of(np.array([0.0, 0.5, 1.0])).tolist() == [0, 7, 14]


@pytest.mark.parametrize(
    ("p", "targets", "task", "what"),
    [
        ([[np.nan, 1.0]], [0], ONE, "finite"),
        ([[0.5, 1.5]], [0], ONE, "from 0 to 1"),
        ([[0.5, 0.1]], [0], ONE, "sum to one"),
        ([[0.5, 0.5]], [2], ONE, "from 0 to 1"),
        ([[0.5, 0.5]], [0.0], ONE, "whole numbers"),
        ([[0.5, 0.5]], [0, 1], ONE, "targets of 2 clips, probabilities of 1"),
        (np.empty((0, 2)), [], ONE, "n >= 1"),
        ([[0.5, 0.5]], [[1, 2]], MANY, "0 or 1"),
    ],
)
def test_wrong_input_is_refused(p, targets, task, what):
    with pytest.raises(ValueError, match=what):
        prepare_clips(p, targets, task)
