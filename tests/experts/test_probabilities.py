"""Scores become probabilities, sharp where held-out answers are right; rare classes weigh more."""

import numpy as np
import pytest

from xmoe.base.task import task_of
from xmoe.experts.probabilities import (
    balanced_weights,
    fit_sharpness,
    log_losses,
    to_logits,
    to_probabilities,
)

ONE, MANY = task_of("single_label"), task_of("multi_label")


def test_sharpness_is_high_where_held_out_answers_are_right():
    rows = np.eye(2)[np.arange(40) % 2]
    sure = fit_sharpness(0.9 * rows + 0.05, rows, ONE)
    unsure = fit_sharpness(np.roll(rows, 1, axis=0), rows, ONE)
    assert sure > 10 * unsure


def test_few_right_answers_make_nobody_certain():
    rows = np.eye(2)[np.arange(10) % 2]
    few = to_probabilities(to_logits(rows, fit_sharpness(rows, rows, ONE), ONE), ONE)
    many = np.tile(rows, (100, 1))
    more = to_probabilities(to_logits(many, fit_sharpness(many, many, ONE), ONE), ONE)
    assert 0.8 < few.max() < 0.99 < more.max() < 1.0


@pytest.mark.parametrize("task", [ONE, MANY])
def test_probabilities_rise_with_the_score(task):
    scores = np.array([[0.9, 0.1], [0.6, 0.4]])
    answers = to_probabilities(to_logits(scores, 4.0, task), task)
    assert answers[0, 0] > answers[1, 0] > 0.5 > answers[1, 1] > answers[0, 1]


def test_logits_of_one_label_are_log_probabilities():
    logits = to_logits(np.random.default_rng(0).normal(size=(5, 4)), 3.0, ONE)
    assert np.exp(logits).sum(axis=1) == pytest.approx(1.0)


@pytest.mark.parametrize("task", [ONE, MANY])
def test_log_loss_is_the_mean_over_decisions(task):
    rng = np.random.default_rng(1)
    logits, rows = rng.normal(size=(6, 3)), np.eye(3)[rng.integers(0, 3, 6)]
    p = to_probabilities(logits, task)
    expected = (
        -np.log((p * rows).sum(1))
        if task.exclusive
        else -(rows * np.log(p) + (1 - rows) * np.log(1 - p)).mean(1)
    )
    assert log_losses(logits, rows, task) == pytest.approx(expected)


def test_balanced_weights_make_classes_equal():
    rows = np.eye(3)[[0] * 6 + [1] * 3]
    weights = balanced_weights(rows)
    assert weights.mean() == pytest.approx(1.0)
    assert weights[:6].sum() == pytest.approx(weights[6:].sum())


def test_balanced_weights_of_clips_with_several_labels_or_none():
    rows = np.array([[1, 0], [1, 1], [0, 0], [1, 0]], dtype=float)
    weights = balanced_weights(rows)
    assert weights[1] > weights[0] == weights[3]
    assert weights[2] > 0
