"""Sets of labels: coverage by exchangeability, counted by hand on few scores."""

import numpy as np
import pytest

from xmoe.predict.conformal import Conformal, fit_conformal, limit_of, pick_labels


def test_the_limit_is_the_score_of_the_rank_that_the_guarantee_asks():
    scores = np.array([0.5, 0.1, 0.2, 0.4, 0.3])
    assert limit_of(scores, 0.5) == 0.3
    assert limit_of(scores, 0.34) == 0.4
    assert limit_of(scores, 0.1) == float("inf")


def test_the_likeliest_label_is_always_in_the_set():
    p = np.array([[0.6, 0.3, 0.1]])
    assert pick_labels(p, 0.0).tolist() == [[True, False, False]]
    assert pick_labels(p, 0.75).tolist() == [[True, True, False]]
    assert pick_labels(p, float("inf")).all()


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.3])
def test_sets_of_fresh_clips_hold_the_truth_as_often_as_promised(alpha):
    rng = np.random.default_rng(0)

    def draw(count):
        truth = rng.integers(0, 5, count)
        logits = rng.normal(size=(count, 5)) + 1.5 * np.eye(5)[truth]
        p = np.exp(logits)
        return p / p.sum(1, keepdims=True), truth

    p, truth = draw(2000)
    conformal = fit_conformal(p, truth, np.arange(2000))
    fresh, true = draw(20_000)
    sets = conformal.pick(fresh, alpha)
    held = sets[np.arange(len(true)), true].mean()
    assert held == pytest.approx(1.0 - alpha, abs=0.02)
    assert 1.0 < sets.sum(1).mean() < 5.0


def test_coverage_is_that_of_sources_left_out():
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 3, 300)
    p = rng.dirichlet(np.ones(3), 300)
    units = np.arange(300) // 10
    measured = fit_conformal(p, truth, units).measured
    assert [one.alpha for one in measured] == [0.05, 0.1, 0.2]
    for one in measured:
        assert one.coverage == pytest.approx(1.0 - one.alpha, abs=0.06)
        assert one.worst_tenth <= one.coverage


def test_alpha_must_be_a_share():
    conformal = Conformal(scores=(0.1, 0.2), measured=())
    with pytest.raises(ValueError, match="alpha"):
        conformal.pick(np.array([0.5, 0.5]), 1.0)
