"""Ridge from sums: against scikit-learn's and the ridge of all rows; any partition alike."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge as Oracle

from xmoe.experts.gram import Block, fit_sums, sum_blocks
from xmoe.experts.ridge import RidgeProblem

ROWS, FEATURES, FOLDS = 90, 14, 3


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, FEATURES)) * rng.uniform(0.5, 3.0, FEATURES) + 2.0
    y = x @ rng.normal(size=(FEATURES, 2)) + rng.normal(size=(ROWS, 2))
    return x.astype(np.float32), y, np.arange(ROWS) % FOLDS, rng.uniform(0.5, 2.0, ROWS)


def cut(problem, size):
    return [
        Block(*(part[start : start + size] for part in problem)) for start in range(0, ROWS, size)
    ]


def scaled(problem):
    x, _, _, weights = problem
    share = weights / weights.sum()
    mean = share @ x
    return (x - mean) / (np.sqrt(share @ (x - mean) ** 2) * FEATURES**0.5)


def test_head_is_the_ridge_of_the_textbook(problem):
    x, y, _, weights = problem
    fit = fit_sums(sum_blocks(cut(problem, 16), num_folds=FOLDS))
    oracle = Oracle(alpha=fit.penalty).fit(scaled(problem), y, sample_weight=weights)
    assert fit.head.predict(x) == pytest.approx(oracle.predict(scaled(problem)), abs=1e-6)


def test_each_row_is_answered_by_a_fit_without_its_fold(problem):
    x, y, folds, weights = problem
    fit = fit_sums(sum_blocks(cut(problem, 16), num_folds=FOLDS))
    held = fit.answer_held_out(x, folds)
    z = scaled(problem)
    for fold in range(FOLDS):
        kept = folds != fold
        oracle = Oracle(alpha=fit.penalty).fit(z[kept], y[kept], sample_weight=weights[kept])
        assert held[~kept] == pytest.approx(oracle.predict(z[~kept]), abs=1e-6)


def test_same_answers_as_the_ridge_that_holds_all_rows(problem):
    x, y, folds, _ = problem
    ones = np.ones(ROWS)
    fit = fit_sums(sum_blocks([Block(x, y, folds, ones)], num_folds=FOLDS))
    whole = RidgeProblem(x, y)
    assert fit.answer_held_out(x, folds) == pytest.approx(
        whole.leave_out(folds, fit.penalty), abs=1e-7
    )


@pytest.mark.parametrize("size", [1, 7, 45])
def test_any_blocks_give_the_same_weights(problem, size):
    one = fit_sums(sum_blocks(cut(problem, ROWS), num_folds=FOLDS))
    many = fit_sums(sum_blocks(cut(problem, size), num_folds=FOLDS))
    assert many.penalty == pytest.approx(one.penalty, rel=1e-12)
    assert many.head.weights == pytest.approx(one.head.weights, abs=1e-9)


def test_penalty_has_the_least_squared_error_on_held_out_folds(problem):
    x, y, folds, weights = problem
    sums = sum_blocks(cut(problem, 30), num_folds=FOLDS)
    best = fit_sums(sums)
    errors = {}
    for strength in (1e-4, 1e-2, 1.0):
        fit = fit_sums(sums, penalties=[strength])
        residuals = y - fit.answer_held_out(x, folds)
        errors[fit.penalty] = float((weights[:, None] * residuals**2).sum())
    chosen = fit_sums(sums, penalties=[1e-4, 1e-2, 1.0]).penalty
    assert chosen == min(errors, key=errors.__getitem__)
    assert best.penalty > 0


def test_memory_is_that_of_the_sums(problem):
    sums = sum_blocks((block for block in cut(problem, 5)), num_folds=FOLDS)
    assert [tuple(one.xx.shape) for one in sums] == [(FEATURES, FEATURES)] * FOLDS
    assert sums[0].xx.dtype == torch.float64


def test_a_fold_without_rows_and_numbers_that_are_none_are_refused(problem):
    with pytest.raises(ValueError, match="every fold"):
        sum_blocks(cut(problem, 30), num_folds=FOLDS + 1)
    x, y, folds, weights = problem
    bad = x.copy()
    bad[0, 0] = np.nan
    with pytest.raises(ValueError, match="finite"):
        fit_sums(sum_blocks([Block(bad, y, folds, weights)], num_folds=FOLDS))
