"""Ridge against scikit-learn's, and held-out answers against fits that really leave rows out."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge as Oracle

from xmoe.experts.ridge import PENALTIES, RidgeProblem, _eigenbasis, hold_out


def make_problem(rows, features, *, seed=0, noise=0.5):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, features)) * rng.uniform(0.5, 3.0, features) + 1.0
    y = x @ rng.normal(size=(features, 2)) + noise * rng.normal(size=(rows, 2))
    return x, y


def fit_ridge(x, y, groups, *, weights=None):
    """The head with the least held-out squared error, and the scores of rows left out."""
    problem = RidgeProblem(x, y, weights=weights)
    penalty = problem.best_penalty(groups)
    held = problem.leave_out(groups, penalty)
    return SimpleNamespace(head=problem.fit(penalty), penalty=penalty, held_out=held)


def scaled(x, like=None):
    """Return x with the mean and the deviation of the rows that a ridge was fitted on."""
    like = x if like is None else like
    return (x - like.mean(0)) / (like.std(0) * x.shape[1] ** 0.5)


@pytest.mark.parametrize(("rows", "features"), [(30, 50), (60, 8)])
def test_fit_is_the_ridge_of_the_textbook(rows, features):
    x, y = make_problem(rows, features)
    ridge = fit_ridge(x, y, np.arange(rows))
    oracle = Oracle(alpha=ridge.penalty).fit(scaled(x), y)
    fresh = x[:5] + 0.1
    assert ridge.head.predict(fresh) == pytest.approx(oracle.predict(scaled(fresh, x)), abs=1e-8)


@pytest.mark.parametrize(("rows", "features"), [(30, 50), (60, 8)])
def test_leaving_groups_out_equals_fitting_without_them(rows, features):
    x, y = make_problem(rows, features)
    groups = np.arange(rows) % 6
    ridge = fit_ridge(x, y, groups)
    for group in range(6):
        kept = groups != group
        oracle = Oracle(alpha=ridge.penalty).fit(scaled(x)[kept], y[kept])
        expected = oracle.predict(scaled(x)[~kept])
        assert ridge.held_out[~kept] == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize(("rows", "features"), [(20, 40), (40, 5)])
def test_leaving_single_rows_out_equals_fitting_without_them(rows, features):
    x, y = make_problem(rows, features)
    ridge = fit_ridge(x, y, np.arange(rows))
    for row in (0, rows - 1):
        kept = np.arange(rows) != row
        oracle = Oracle(alpha=ridge.penalty).fit(scaled(x)[kept], y[kept])
        expected = oracle.predict(scaled(x)[row : row + 1])[0]
        assert ridge.held_out[row] == pytest.approx(expected, abs=1e-7)


def test_labels_at_random_are_not_known_when_held_out():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(100, 300))
    y = np.eye(2)[rng.integers(0, 2, 100)]
    held = fit_ridge(x, y, np.arange(100)).held_out
    assert (held.argmax(1) == y.argmax(1)).mean() < 0.65


def test_noise_asks_for_a_stronger_penalty():
    clean = fit_ridge(*make_problem(60, 20, noise=0.01), np.arange(60))
    noisy = fit_ridge(*make_problem(60, 20, noise=30.0), np.arange(60))
    assert noisy.penalty > 10 * clean.penalty


def test_groups_matter_where_rows_repeat():
    rng = np.random.default_rng(1)
    centre = rng.normal(size=(20, 100))
    y = np.repeat(np.eye(2)[rng.integers(0, 2, 20)], 3, axis=0)
    x = np.repeat(centre, 3, axis=0) + 0.01 * rng.normal(size=(60, 100))
    groups = np.repeat(np.arange(20), 3)
    alone = (fit_ridge(x, y, np.arange(60)).held_out.argmax(1) == y.argmax(1)).mean()
    whole = (fit_ridge(x, y, groups).held_out.argmax(1) == y.argmax(1)).mean()
    assert alone == 1.0
    assert whole < 0.8


def test_hold_out_gives_one_answer_per_partition():
    x, y = make_problem(40, 12)
    partitions = np.stack([np.arange(40) % 4, np.arange(40) // 10])
    held = hold_out(x, y, partitions)
    assert held.shape == (2, 40, 2)
    for part, scores in zip(partitions, held, strict=True):
        assert scores == pytest.approx(fit_ridge(x, y, part).held_out)


def test_constant_features_and_targets_do_no_harm():
    x, y = make_problem(20, 6)
    x[:, 2] = 5.0
    y[:, 1] = 1.0
    ridge = fit_ridge(x, y, np.arange(20))
    assert np.isfinite(ridge.head.weights).all()
    assert ridge.head.predict(x)[:, 1] == pytest.approx(1.0)


@pytest.mark.parametrize("rows", [1, 2])
def test_very_few_rows_answer_with_numbers(rows):
    ridge = fit_ridge(np.ones((rows, 3)), np.eye(2)[:rows], np.arange(rows))
    assert np.isfinite(ridge.head.predict(np.zeros((4, 3)))).all()
    assert np.isfinite(ridge.held_out).all()


def test_same_bytes_twice():
    x, y = make_problem(50, 30)
    first, second = (fit_ridge(x, y, np.arange(50) % 5) for _ in range(2))
    assert first.head.weights.tobytes() == second.head.weights.tobytes()
    assert first.held_out.tobytes() == second.held_out.tobytes()


def test_penalties_rise():
    assert list(PENALTIES) == sorted(PENALTIES)


def weighted_problem(rows=40, features=60):
    x, y = make_problem(rows, features)
    weights = np.random.default_rng(5).uniform(0.2, 3.0, rows)
    weights /= weights.mean()
    share = weights / weights.sum()
    mean = share @ x
    z = (x - mean) / (np.sqrt(share @ (x - mean) ** 2) * features**0.5)
    return x, y, z, weights


@pytest.mark.parametrize("features", [60, 12])
def test_weights_count_rows_as_the_textbook_does(features):
    x, y, z, weights = weighted_problem(features=features)
    groups = np.arange(40) % 5
    ridge = fit_ridge(x, y, groups, weights=7.0 * weights)
    oracle = Oracle(alpha=ridge.penalty).fit(z, y, sample_weight=weights)
    assert ridge.head.predict(x) == pytest.approx(oracle.predict(z), abs=1e-8)
    kept = groups != 2
    oracle = Oracle(alpha=ridge.penalty).fit(z[kept], y[kept], sample_weight=weights[kept])
    assert ridge.held_out[~kept] == pytest.approx(oracle.predict(z[~kept]), abs=1e-8)


@pytest.mark.parametrize("groups", [np.arange(40) % 5, np.arange(40)])
@pytest.mark.parametrize("features", [60, 12])
def test_copies_are_answered_without_the_group_of_their_owner(groups, features):
    x, y, z, weights = weighted_problem(features=features)
    problem = RidgeProblem(x, y, weights=weights)
    penalty = problem.penalty(0.1)
    owners = np.array([0, 3, 3, 17, 39])
    rng = np.random.default_rng(6)
    copies = x[owners] + 0.1 * rng.normal(size=(5, features))
    answers = problem.answer_copies(copies, owners, groups, penalty)
    share = weights / weights.sum()
    mean = share @ x
    scale = np.sqrt(share @ (x - mean) ** 2) * features**0.5
    for answer, copy, owner in zip(answers, copies, owners, strict=True):
        kept = groups != groups[owner]
        oracle = Oracle(alpha=penalty).fit(z[kept], y[kept], sample_weight=weights[kept])
        assert answer == pytest.approx(oracle.predict(((copy - mean) / scale)[None])[0], abs=1e-7)


def test_a_copy_that_equals_its_owner_has_its_held_out_answer():
    x, y = make_problem(30, 50)
    problem, groups = RidgeProblem(x, y), np.arange(30) % 6
    penalty = problem.best_penalty(groups)
    copies = problem.answer_copies(x, np.arange(30), groups, penalty)
    assert copies == pytest.approx(problem.leave_out(groups, penalty), abs=1e-8)


def test_penalty_follows_the_rows_that_judge():
    x, y = make_problem(80, 20, noise=0.01)
    y[40:] = np.random.default_rng(2).normal(size=(40, 2))
    groups = np.arange(80)
    problem = RidgeProblem(x, y)
    clean, noisy = groups < 40, groups >= 40
    assert problem.best_penalty(groups, judged=noisy) > problem.best_penalty(groups, judged=clean)


def test_penalties_count_in_mean_eigenvalues_of_features_that_vary():
    x, y = make_problem(30, 4)
    assert RidgeProblem(x, y).penalty(0.5) == pytest.approx(0.5)
    x[:, 2] = 5.0
    assert RidgeProblem(x, y).penalty(0.5) == pytest.approx(0.375)


def test_features_that_vary_too_little_are_not_blown_up():
    x = np.array([[1.0, 1e-6, 2e-6, 0.0], [-1.0, -1e-6, -2e-6, 0.0]])
    problem = RidgeProblem(x, np.eye(2))
    assert problem.scale.tolist() == pytest.approx([2.0, 2.0, 4e-6, 2.0], abs=0.0)


@pytest.mark.parametrize(
    ("best", "tried"),
    [
        (0, [0, 3, 6, 9, 12, 1, 2]),
        (5, [0, 3, 6, 9, 12, 4, 5, 7, 8]),
        (12, [0, 3, 6, 9, 12, 10, 11]),
    ],
)
def test_every_third_penalty_is_tried_then_the_neighbours_of_the_best(best, tried, monkeypatch):
    problem, seen = RidgeProblem(*make_problem(30, 4)), []

    def left_out(groups, penalty):
        seen.append(int(np.abs(np.log(PENALTIES) - np.log(penalty)).argmin()))
        return torch.full((30, 2), 1.0 + abs(seen[-1] - best))

    monkeypatch.setattr(problem, "_left_out", left_out)
    assert problem.best_penalty(np.arange(30)) == pytest.approx(PENALTIES[best])
    assert seen == tried


@pytest.mark.parametrize(("rows", "features", "side"), [(30, 50, 30), (60, 8, 8), (20, 20, 20)])
def test_the_smaller_side_is_decomposed(rows, features, side, monkeypatch):
    shapes, decompose = [], torch.linalg.eigh

    def spy(matrix):
        shapes.append(matrix.shape)
        return decompose(matrix)

    monkeypatch.setattr(torch.linalg, "eigh", spy)
    RidgeProblem(*make_problem(rows, features))
    assert shapes == [(side, side)]


@pytest.mark.parametrize(("values", "kept"), [([1e3, 1.0, 1e-3], 2), ([1e3, 1.0, 0.1], 3)])
@pytest.mark.parametrize("wide", [True, False])
def test_directions_that_are_rounding_are_dropped(values, kept, wide):
    x = torch.diag(torch.tensor(values, dtype=torch.float64))
    x = torch.nn.functional.pad(x, (0, 2) if wide else (0, 0, 0, 2))
    basis, eigenvalues = _eigenbasis(x)
    expected = sorted(value**2 for value in values)[-kept:]
    assert eigenvalues.tolist() == pytest.approx(expected)
    assert basis.T @ basis == pytest.approx(np.eye(kept), abs=1e-9)
    assert (x @ x.T @ basis).numpy() == pytest.approx((basis * eigenvalues).numpy(), rel=1e-6)
