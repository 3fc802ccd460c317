"""Promises on planted data: better than chance, honest, and cheaper than asking at random."""

import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from xmoe.training.promise import (
    Depths,
    blind_right,
    choose_first_most,
    cross_fit,
    fit_promise,
    fit_promises,
    fold_units,
    measure_point,
    right_at,
    route,
    trace_curve,
)

CLIPS = 1200


@pytest.fixture(scope="module")
def planted():
    """Clips of which hard ones need the second, dear expert, as the evidence tells."""
    rng = np.random.default_rng(0)
    hardness = rng.normal(size=CLIPS)
    right = np.stack(
        [rng.random(CLIPS) < expit(2 - 3 * hardness), rng.random(CLIPS) < expit(3 - hardness)], 1
    ).astype(float)
    right = np.concatenate([right, right[:, 1:]], 1)
    evidence = np.stack([hardness + 0.3 * rng.normal(size=CLIPS), rng.normal(size=CLIPS)], 1)
    return Depths(
        order=("dear", "idle"),
        costs_ms=(10.0, 10.0),
        evidence=(evidence, evidence, evidence),
        right=right,
        units=np.arange(CLIPS) // 20,
    )


def test_a_promise_is_the_logistic_regression_of_the_textbook(planted):
    evidence, right = planted.evidence[0], planted.right[:, :1]
    found = fit_promise(evidence, right, 1.0)
    seen = (evidence - evidence.mean(0)) / evidence.std(0)
    oracle = LogisticRegression(C=1 / (1.0 * CLIPS), tol=1e-10).fit(seen, right[:, 0])
    assert found.weights[0] == pytest.approx(oracle.coef_[0], abs=1e-3)
    assert found.bias[0] == pytest.approx(oracle.intercept_[0], abs=1e-3)


def test_promises_tell_right_from_wrong_and_are_honest(planted):
    fitted = cross_fit(planted)
    promised = np.zeros(CLIPS)
    for rows, promises in fitted:
        promised[rows] = promises.depths[0].promise(planted.evidence[0][rows])[:, 0]
    assert roc_auc_score(planted.right[:, 0], promised) > 0.85
    assert promised.mean() == pytest.approx(planted.right[:, 0].mean(), abs=0.03)


def test_evidence_at_random_promises_no_more_than_chance(planted):
    shuffled = np.random.default_rng(1).permutation(CLIPS)
    blind = Depths(
        planted.order,
        planted.costs_ms,
        tuple(table[shuffled] for table in planted.evidence),
        planted.right,
        planted.units,
    )
    promised = np.zeros(CLIPS)
    for rows, promises in cross_fit(blind):
        promised[rows] = promises.depths[0].promise(blind.evidence[0][rows])[:, 0]
    assert roc_auc_score(planted.right[:, 0], promised) == pytest.approx(0.5, abs=0.06)


def test_spending_by_promise_beats_spending_blindly(planted):
    costs, rights = np.array([0.0, 10.0, 20.0]), planted.right.mean(axis=0)
    for point in trace_curve(cross_fit(planted), planted, [0.01, 0.02, 0.03]):
        assert 0 < point.mean_ms < 10
        assert point.right > blind_right(costs, rights, point.mean_ms) + 0.03


def test_a_price_below_nothing_asks_everyone_and_a_high_one_nobody(planted):
    promises = fit_promises(planted)
    assert (route(promises, planted, price=-0.1) == 2).all()
    assert route(promises, planted, price=10.0).max() == 0


def test_an_expert_that_adds_nothing_is_not_asked(planted):
    asked = route(fit_promises(planted), planted, price=0.001)
    assert (asked == 2).mean() < 0.1


def test_the_second_round_reads_the_answer_of_the_first():
    rng = np.random.default_rng(2)
    solved = rng.random(CLIPS) < 0.5
    right = np.stack([np.zeros(CLIPS), solved, np.ones(CLIPS)], 1).astype(float)
    blind = rng.normal(size=(CLIPS, 1))
    seeing = np.where(solved, 3.0, -3.0)[:, None] + blind
    depths = Depths(
        ("cheap", "dear"), (1.0, 50.0), (blind, seeing, seeing), right, np.arange(CLIPS) // 10
    )
    promises = fit_promises(depths, first_most=1)
    asked = route(promises, depths, price=0.005)
    assert (asked[solved] == 1).mean() > 0.95
    assert (asked[~solved] == 2).mean() > 0.95
    one_round = route(promises, depths, price=0.005, rounds=1)
    assert one_round.max() == 1


def test_the_first_round_is_as_short_as_the_second_makes_it_worth():
    rng = np.random.default_rng(4)
    solved = rng.random(CLIPS) < 0.7
    right = np.stack([np.zeros(CLIPS), solved, np.ones(CLIPS)], 1).astype(float)
    blind = rng.normal(size=(CLIPS, 1))
    seeing = np.where(solved, 3.0, -3.0)[:, None] + blind
    depths = Depths(
        ("cheap", "dear"), (1.0, 50.0), (blind, seeing, seeing), right, np.arange(CLIPS) // 10
    )
    assert choose_first_most(cross_fit(depths), depths) == 1


def test_between_points_a_curve_is_a_line(planted):
    asked = np.zeros(CLIPS, dtype=int)
    curve = [measure_point(planted, asked, 1.0), measure_point(planted, asked + 1, 0.0)]
    middle = right_at(curve, 5.0)
    assert middle == pytest.approx((curve[0].right + curve[1].right) / 2)


def test_blind_spending_mixes_the_two_choices_around_the_cost():
    costs, rights = np.array([1.0, 2.0, 5.0]), np.array([0.4, 0.5, 0.9])
    assert blind_right(costs, rights, 1.0) == pytest.approx(0.4)
    assert blind_right(costs, rights, 3.0) == pytest.approx(0.65)
    assert blind_right(costs, rights, 9.0) == pytest.approx(0.9)
    assert blind_right(costs, rights, 0.5) == pytest.approx(0.4)
    assert blind_right(costs, np.array([0.6, 0.5, 0.5]), 3.0) == pytest.approx(0.6)


def test_points_count_what_was_asked(planted):
    asked = np.zeros(CLIPS, dtype=int)
    asked[: CLIPS // 4] = 2
    point = measure_point(planted, asked, 0.1)
    assert point.mean_ms == pytest.approx(5.0)
    assert point.mean_k == pytest.approx(0.5)


def test_folds_keep_sources_whole_and_are_even():
    units = np.repeat(np.arange(12), [5, 1, 1, 3, 3, 3, 2, 2, 4, 4, 1, 1])
    folds = fold_units(units)
    for unit in range(12):
        assert len(set(folds[units == unit])) == 1
    assert np.ptp(np.bincount(folds)) <= 2


def test_one_source_alone_cannot_be_left_out(planted):
    alone = Depths(
        planted.order,
        planted.costs_ms,
        planted.evidence,
        planted.right,
        np.zeros(CLIPS, dtype=int),
    )
    assert cross_fit(alone) == []
    assert fit_promises(alone).first_most == 2
