"""Promises on planted data: better than chance, honest, and cheaper than asking at random."""

from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from xmoe.routing.promise import Promises
from xmoe.training import promise as module
from xmoe.training.promise import (
    NUM_FOLDS,
    STRENGTHS,
    Depths,
    choose_first_most,
    choose_strengths,
    cross_fit,
    fit_promise,
    fit_promises,
    fold_units,
    measure_point,
    mix_blindly,
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


def test_evidence_far_out_or_constant_teaches_no_more_than_it_says(planted):
    evidence = planted.evidence[0].copy()
    evidence[0, 0], evidence[:, 1] = 1e3, 2.5
    found = fit_promise(evidence, planted.right[:, :1], 0.1)
    mean, scale = evidence[:, 0].mean(), evidence[:, 0].std()
    assert found.mean == pytest.approx((mean, 2.5))
    assert found.scale == pytest.approx((scale, 1.0))
    seen = np.clip((evidence[:, :1] - mean) / scale, -5.0, 5.0)
    oracle = LogisticRegression(C=1 / (0.1 * CLIPS), tol=1e-10).fit(seen, planted.right[:, 0])
    assert found.weights[0] == pytest.approx([oracle.coef_[0, 0], 0.0], abs=1e-3)


def test_evidence_that_varies_by_no_more_than_rounding_is_constant():
    evidence = np.array([[1e-6, 2e-6], [-1e-6, -2e-6]])
    assert fit_promise(evidence, np.eye(2), 1.0).scale == (1.0, 2e-6)


def test_a_fit_starts_from_the_share_that_is_right(monkeypatch):
    monkeypatch.setattr(module, "minimize", lambda loss, start, **_: SimpleNamespace(x=start))
    right = np.array([[1.0, 0, 1, 0], [1, 0, 1, 0], [1, 0, 0, 0], [1, 0, 0, 1]])
    found = fit_promise(np.arange(8.0).reshape(4, 2), right, 1.0)
    assert found.weights == ((0.0, 0.0),) * 4
    assert found.bias == pytest.approx(np.log([7.0, 1 / 7, 1.0, 1 / 3]))


def test_strengths_are_those_that_do_best_on_sources_left_out():
    """Few clips with much evidence: where it tells little, weights have to be small."""
    rng, clips = np.random.default_rng(0), 60
    units, tables = np.arange(clips) // 4, [rng.normal(size=(clips, 6)) for _ in range(3)]
    chances = [expit(4 * tables[0][:, 0]), expit(0.5 * tables[1][:, 0]), np.full(clips, 0.5)]
    right = (rng.random((clips, 3)) < np.stack(chances, 1)).astype(float)
    depths = Depths(("a", "b"), (1.0, 1.0), tuple(tables), right, units)
    folds, expected = fold_units(units), []
    for depth, evidence in enumerate(tables):
        seen, losses = (evidence - evidence.mean(0)) / evidence.std(0), []
        for strength in STRENGTHS:
            total = 0.0
            for column, fold in product((depth, 2), range(NUM_FOLDS)):
                known, truth = folds != fold, right[:, column]
                model = LogisticRegression(C=1 / (strength * known.sum()), tol=1e-10)
                model.fit(seen[known], truth[known])
                said = model.predict_proba(seen[~known])[:, 1]
                total -= np.log(np.where(truth[~known] == 1, said, 1 - said)).sum()
            losses.append(total)
        expected.append(STRENGTHS[int(np.argmin(losses))])
    assert choose_strengths(depths) == expected
    assert len(set(expected)) > 1


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
        blind = mix_blindly(costs, rights, point.mean_ms) @ rights
        assert point.right > blind + 0.03


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
    seeing = np.concatenate([np.where(solved, 3.0, -3.0)[:, None] + blind, blind], 1)
    depths = Depths(
        ("cheap", "dear"), (1.0, 50.0), (blind, seeing, seeing), right, np.arange(CLIPS) // 10
    )
    promises = fit_promises(depths, first_most=1)
    asked = route(promises, depths, price=0.005)
    assert (asked[solved] == 1).mean() > 0.95
    assert (asked[~solved] == 2).mean() > 0.95
    assert promises.choose(0, depths.evidence[0], price=0.005).max() == 1


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


@pytest.mark.parametrize("longest", [1, 2, 3])
def test_the_first_round_is_as_long_as_it_alone_knows_whom_to_ask(longest, monkeypatch):
    """A curve that is worth most at ``longest``; what counts is its mean at the shown shares."""
    depths = Depths(("a", "b", "c"), (1.0, 2.0, 7.0), (), np.zeros((4, 4)), np.arange(4))
    spent = []

    def trace(fitted, depths, prices):
        assert prices is module.PRICES
        return fitted[0][1].first_most

    def right(most, mean_ms):
        spent.append(mean_ms)
        return -abs(most - longest) + mean_ms * (most == 0)

    monkeypatch.setattr(module, "trace_curve", trace)
    monkeypatch.setattr(module, "right_at", right)
    known = Promises(order=depths.order, costs_ms=depths.costs_ms, depths=(), first_most=0)
    assert choose_first_most([(np.arange(4), known)], depths) == longest
    assert spent == pytest.approx([1.0, 2.0, 3.0, 5.0] * 3)


def test_between_points_a_curve_is_a_line(planted):
    asked = np.zeros(CLIPS, dtype=int)
    curve = [measure_point(planted, asked, 1.0), measure_point(planted, asked + 1, 0.0)]
    middle = right_at(curve, 5.0)
    assert middle == pytest.approx((curve[0].right + curve[1].right) / 2)
    assert right_at(curve, 2.5) == pytest.approx(0.75 * curve[0].right + 0.25 * curve[1].right)
    assert right_at(curve, 99.0) == curve[1].right


def test_blind_spending_mixes_the_two_choices_around_the_cost():
    costs, rights = np.array([1.0, 2.0, 5.0]), np.array([0.4, 0.5, 0.9])
    assert mix_blindly(costs, rights, 1.0) == pytest.approx([1.0, 0.0, 0.0])
    assert mix_blindly(costs, rights, 3.0) == pytest.approx([0.5, 0.0, 0.5])
    assert mix_blindly(costs, rights, 9.0) == pytest.approx([0.0, 0.0, 1.0])
    assert mix_blindly(costs, rights, 0.5) == pytest.approx([1.0, 0.0, 0.0])
    assert mix_blindly(costs, np.array([0.6, 0.5, 0.5]), 3.0) == pytest.approx([1.0, 0.0, 0.0])
    assert mix_blindly(costs, np.array([0.1, 0.6, 0.7]), 3.0) == pytest.approx([0.0, 2 / 3, 1 / 3])


def test_points_count_what_was_asked(planted):
    asked = np.zeros(CLIPS, dtype=int)
    asked[: CLIPS // 4] = 2
    point = measure_point(planted, asked, 0.1)
    assert point.mean_ms == pytest.approx(5.0)
    assert point.mean_k == pytest.approx(0.5)
    assert point.price == 0.1
    right = [*planted.right[: CLIPS // 4, 2], *planted.right[CLIPS // 4 :, 0]]
    assert point.right == pytest.approx(np.mean(right))


def test_a_curve_has_a_point_for_each_price_on_rows_left_out(planted):
    few = planted.rows(np.arange(200))
    fitted, folds = cross_fit(few), fold_units(few.units)
    assert [rows.tolist() for rows, _ in fitted] == [
        np.flatnonzero(folds == fold).tolist() for fold in range(NUM_FOLDS)
    ]
    strengths, asked = choose_strengths(few), np.zeros(200, dtype=int)
    for fold, (rows, promises) in enumerate(fitted):
        known = few.rows(np.flatnonzero(folds != fold))
        assert promises == fit_promises(known, strengths=strengths)
        asked[rows] = route(promises, few.rows(rows), price=0.02)
    points = trace_curve(fitted, few, [0.02, 10.0])
    assert points == [measure_point(few, asked, 0.02), measure_point(few, 0 * asked, 10.0)]


def test_folds_keep_sources_whole_and_are_even():
    units = np.repeat(np.arange(12), [5, 1, 1, 3, 3, 3, 2, 2, 4, 4, 1, 1])
    folds = fold_units(units)
    for unit in range(12):
        assert len(set(folds[units == unit])) == 1
    assert np.ptp(np.bincount(folds)) <= 2


def test_the_largest_source_goes_where_fewest_rows_are():
    units = np.repeat([7, 3, 9, 5], [1, 5, 4, 3])
    assert fold_units(units, 2).tolist() == [0] * 6 + [1] * 7
    few = fold_units(np.array([4, 4, 2]))
    assert few.tolist() == [0, 0, 1]
    assert few.dtype == np.int64


def test_sources_of_one_size_are_dealt_out_in_turn():
    assert fold_units(np.arange(60)).tolist() == [unit % NUM_FOLDS for unit in range(60)]


def test_one_source_alone_cannot_be_left_out(planted):
    alone = Depths(
        planted.order,
        planted.costs_ms,
        planted.evidence,
        planted.right,
        np.zeros(CLIPS, dtype=int),
    )
    assert cross_fit(alone) == []
    assert choose_strengths(alone) == [STRENGTHS[-1]] * 3
    assert fit_promises(alone).first_most == 2
    assert fit_promises(alone, first_most=1).first_most == 1
