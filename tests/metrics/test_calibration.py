"""Temperature: the one that made the data is found; few clips do not buy certainty."""

import numpy as np
import pytest
import torch
from scipy.special import expit, softmax

from xmoe.base.task import MultiLabel, SingleLabel
from xmoe.metrics.calibration import fit_temperature, reliability_curve
from xmoe.metrics.figures import prepare_clips


def fitted(logits, truth, task):
    return fit_temperature(torch.from_numpy(logits), torch.from_numpy(truth), task)


def sampled_targets(logits, temperature, rng):
    p = softmax(logits / temperature, axis=1)
    return (p.cumsum(1) > rng.uniform(size=(len(p), 1))).argmax(1)


@pytest.mark.parametrize("true_temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_made_the_targets_is_found(true_temperature, rng):
    logits = rng.normal(0, 2, (5000, 4))
    truth = np.eye(4)[sampled_targets(logits, true_temperature, rng)]
    assert fitted(logits, truth, SingleLabel()) == pytest.approx(true_temperature, rel=0.06)


def test_it_is_found_for_several_labels_too(rng):
    logits = rng.normal(0, 2, (3000, 3))
    targets = (rng.uniform(size=logits.shape) < expit(logits / 2.0)).astype(np.float32)
    assert fitted(logits, targets, MultiLabel()) == pytest.approx(2.0, rel=0.06)


def test_ten_clips_all_right_do_not_buy_certainty():
    logits = np.tile([2.0, 0.0], (10, 1))
    temperature = fitted(logits, np.tile([1, 0], (10, 1)), SingleLabel())
    confidence = softmax(logits[0] / temperature)[0]
    assert confidence == pytest.approx(10.5 / 11, abs=1e-3)


def test_temperature_never_changes_the_answer_and_stays_in_range():
    logits = np.array([[1e-3, 0.0], [0.0, 1e-3]])
    assert 0.05 <= fitted(logits, np.eye(2)[[1, 0]], SingleLabel()) <= 20.0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_not_finite_are_refused(bad):
    with pytest.raises(ValueError, match="finite"):
        fitted(np.array([[bad, 0.0]]), np.eye(2)[:1], SingleLabel())


def test_the_reliability_curve_by_hand():
    p = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6]])
    clips = prepare_clips(p, np.array([0, 1, 1]), SingleLabel())
    curve = reliability_curve(clips)
    assert curve["confidence"] == [pytest.approx(0.6), pytest.approx(0.9)]
    assert curve["accuracy"] == [1.0, 0.5]
    assert curve["count"] == [1, 2]
