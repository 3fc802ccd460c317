"""Weights against scipy's own optimum; who is taken where the truth was planted."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax

from xmoe.base.task import task_of
from xmoe.training.stack import (
    HeldOut,
    fit_stack,
    fit_weights,
    judge_addition,
    select_experts,
)

ONE, MANY = task_of("single_label"), task_of("multi_label")
CLIPS, CLASSES = 300, 4


def answers(rows, rng, *, skill):
    """Return log-probabilities that lean to the truth by ``skill``."""
    return log_softmax(skill * rows + rng.normal(size=rows.shape), axis=1)


@pytest.fixture(scope="module")
def truth():
    return np.eye(CLASSES)[np.random.default_rng(0).integers(0, CLASSES, CLIPS)]


def hold(truth, skills, *, task=ONE):
    rng = np.random.default_rng(1)
    logits = {name: answers(truth, rng, skill=skill) for name, skill in skills.items()}
    return HeldOut(logits, truth, np.arange(CLIPS) // 5, task)


def test_weights_are_the_optimum_that_another_optimiser_finds(truth):
    held = hold(truth, {"a": 2.0, "b": 1.0, "c": -0.5})
    table = held.table(list("abc"))

    def loss(weights):
        return held.losses(np.tensordot(weights, table, 1)).mean() + 0.01 * np.sum(weights**2)

    oracle = minimize(loss, np.ones(3), bounds=[(0, None)] * 3, method="SLSQP", tol=1e-12)
    weights = fit_weights(table, truth, ONE, l2=0.01)
    assert weights == pytest.approx(oracle.x, abs=1e-3)
    assert loss(weights) == pytest.approx(oracle.fun, abs=1e-7)


def test_an_expert_that_misleads_weighs_nothing(truth):
    held = hold(truth, {"good": 2.0, "contrary": -1.0})
    weights = fit_stack(held, ["good", "contrary"]).weights
    assert weights["contrary"] == 0.0
    assert weights["good"] > 0.5


@pytest.mark.parametrize("task", [ONE, MANY])
def test_two_that_know_different_things_beat_either(truth, task):
    held = hold(truth, {"a": 1.5, "b": 1.5}, task=task)
    stack = fit_stack(held, ["a", "b"])
    together = held.losses(stack.combine(held.logits)).mean()
    assert together < min(held.losses(held.logits[name]).mean() for name in "ab")


def test_a_useless_candidate_is_not_taken(truth):
    held = hold(truth, {"a": 2.0, "b": 2.0, "useless": 0.0})
    found = select_experts(held, {"useless": 0.1, "a": 1.0, "b": 1.0})
    assert set(found.stack.weights) == {"a", "b"}
    row = next(row for row in found.rows if row.name == "useless")
    assert not row.taken
    assert row.reason == "no more than its standard error"
    assert len(found.rows) == 3


def test_of_two_that_know_the_same_the_cheap_one_is_taken(truth):
    held = hold(truth, {"dear": 2.0})
    rng = np.random.default_rng(3)
    cheap = held.logits["dear"] + 0.01 * rng.normal(size=truth.shape)
    both = HeldOut({**held.logits, "cheap": cheap}, truth, held.units, ONE)
    found = select_experts(both, {"dear": 20.0, "cheap": 1.0})
    assert list(found.stack.weights) == ["cheap"]
    assert "dear" in found.rows[0].reason or found.rows[0].reason == "it gains most"


def test_the_table_says_in_which_order_and_what_each_gained(truth):
    held = hold(truth, {"a": 3.0, "b": 1.5, "c": 1.5})
    found = select_experts(held, dict.fromkeys("abc", 1.0))
    assert [row.place for row in found.rows] == [1, 2, 3]
    assert found.rows[0].name == "a"
    gains = [row.gain for row in found.rows]
    assert gains == sorted(gains, reverse=True)
    assert found.loss < found.rows[0].alone


def test_no_mixture_loses_to_one_of_its_candidates(truth):
    held = hold(truth, {"a": 0.6, "b": 3.0})
    found = select_experts(held, {"a": 0.001, "b": 1000.0})
    assert found.loss <= min(row.alone for row in found.rows)


def test_one_candidate_is_taken_even_where_it_knows_nothing(truth):
    held = hold(truth, {"only": 0.0})
    found = select_experts(held, {"only": 1.0})
    assert list(found.stack.weights) == ["only"]


def test_where_no_gain_exceeds_chance_the_baseline_stays(truth):
    units = np.repeat(np.arange(4), len(truth) // 4)
    few = hold(truth, {"baseline": 0.0, "lucky": 0.0})
    few = HeldOut(few.logits, truth, units, ONE)
    # Right for one source, wrong for the others: its gain is less than its standard error.
    lucky = np.where((units == 0)[:, None], 3.0 * truth, 0.2 * (1.0 - truth))
    held = HeldOut({**few.logits, "lucky": lucky}, truth, units, ONE)
    found = select_experts(held, {"baseline": 5.0, "lucky": 1.0})
    assert list(found.stack.weights) == ["baseline"]
    assert found.rows[0].reason.endswith("the baseline stays")
    assert found.rows[1].gain > found.rows[0].gain


def test_many_values_are_thinned_out(truth, monkeypatch):
    from xmoe.training import stack

    monkeypatch.setattr(stack, "MOST_VALUES", 100)
    monkeypatch.setattr(stack, "LEAST_CLIPS", 20)
    held = hold(truth, {"a": 2.0, "b": 2.0})
    assert len(stack.thin_out(held, 2).rows) == 20
    assert set(select_experts(held, {"a": 1.0, "b": 1.0}).stack.weights) <= {"a", "b"}


@pytest.mark.parametrize("clips", [30, CLIPS])
def test_one_more_answer_is_judged_on_sources_that_its_weight_does_not_know(truth, clips):
    held = hold(truth, {"a": 1.5, "b": 1.0, "better": 3.0, "useless": 0.0})
    copied = {**held.logits, "copy": held.logits["a"]}
    held = HeldOut(copied, truth, held.units, ONE).pick(np.arange(clips))
    rows = {name: judge_addition(held, ["a", "b"], name, 9.0) for name in held.logits}
    assert {name for name, row in rows.items() if row.taken} == {"better"}
    row = rows["better"]
    assert row.gain > row.gain_se > 0.0
    assert (row.ms, row.reason) == (9.0, "more than a standard error")
    assert row.weight == pytest.approx(
        fit_stack(held, ["a", "b", "better"]).weights["better"], abs=1e-4
    )
    assert rows["useless"].gain <= rows["useless"].gain_se
    assert rows["useless"].weight == 0.0
    assert rows["copy"].gain == pytest.approx(0.0, abs=5e-3)
