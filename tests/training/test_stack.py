"""Weights against scipy's own optimum; who is taken where the truth was planted."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax

from xmoe.base.task import task_of
from xmoe.policy.race import mean_and_error
from xmoe.training import stack as module
from xmoe.training.promise import fold_units
from xmoe.training.stack import (
    JUDGING_L2,
    HeldOut,
    fit_stack,
    fit_weights,
    judge_addition,
    select_experts,
    thin_out,
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


@pytest.mark.parametrize("l2", [0.0, 0.01, 0.5])
@pytest.mark.parametrize("task", [ONE, MANY])
def test_weights_are_the_optimum_that_another_optimiser_finds(truth, task, l2):
    held = hold(truth, {"a": 2.0, "b": 1.0, "c": -0.5}, task=task)
    table = held.table(list("abc"))

    def loss(weights):
        return held.losses(np.tensordot(weights, table, 1)).mean() + l2 * np.sum(weights**2)

    oracle = minimize(loss, np.ones(3), bounds=[(0, None)] * 3, method="SLSQP", tol=1e-12)
    weights = fit_weights(table, truth, task, l2=l2)
    assert weights == pytest.approx(oracle.x, abs=1e-3)
    assert loss(weights) == pytest.approx(oracle.fun, abs=1e-7)
    assert list(fit_stack(held, list("abc"), l2=l2).weights.values()) == weights.tolist()


def test_experts_that_say_nothing_weigh_the_same(truth):
    assert fit_weights(np.zeros((4, CLIPS, CLASSES)), truth, ONE, l2=0.0).tolist() == [0.25] * 4


def test_the_prior_knows_how_frequent_classes_are():
    rows = np.array([[1.0, 0, 0], [1, 0, 1], [1, 0, 0], [1, 0, 0]])
    share = np.array([1 - 1e-6, 1e-6, 0.25])
    for task, expected in [(ONE, np.log(share)), (MANY, np.log(share) - np.log(1 - share))]:
        prior = HeldOut({}, rows, np.arange(4), task).prior()
        assert prior.shape == rows.shape
        for row in prior:
            assert row == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_some_of_the_clips_keep_their_answers_labels_and_sources(truth):
    held = hold(truth, {"a": 1.0, "b": 2.0})
    few = held.pick(np.array([7, 3]))
    assert few.units.tolist() == [1, 0]
    assert few.task is ONE
    assert (few.rows == truth[[7, 3]]).all()
    assert (few.table(["b", "a"]) == [held.logits[name][[7, 3]] for name in "ba"]).all()


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
    assert [row.name for row in found.rows[2:]] == ["useless"]
    row = found.rows[2]
    assert (row.taken, row.place, row.weight) == (False, None, 0.0)
    assert row.reason == "no more than its standard error"


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


@pytest.mark.parametrize("always", [(), ("c",)])
def test_every_number_of_the_table_is_that_of_a_slow_search(truth, always):
    """a is worth far more than b, and c, where it is no candidate, is there from the start."""
    held = hold(truth, {"b": 1.2, "a": 3.0, "c": 1.0})
    found = select_experts(held, {"b": 1.23456, "a": 1.0}, always=always)

    def losses(names):
        if not names:
            return held.losses(np.log(truth.mean(0)) + np.zeros_like(truth))
        weights = fit_weights(held.table(names), truth, ONE, l2=0.0)
        return held.losses(np.tensordot(weights, held.table(names), 1))

    assert [(row.name, row.place, row.ms) for row in found.rows] == [("a", 1, 1.0), ("b", 2, 1.235)]
    before = list(always)
    for row in found.rows:
        gains = losses(before) - losses([*before, row.name])
        assert (row.gain, row.gain_se) == mean_and_error(gains, held.units)
        assert row.alone == round(held.losses(held.logits[row.name]).mean(), 4)
        assert row.weight == round(found.stack.weights[row.name], 4) > 0.0
        before.append(row.name)
    assert found.stack == fit_stack(held, before)
    logits = found.stack.combine(held.logits)
    assert found.loss == round(held.losses(logits).mean(), 4)
    assert found.accuracy == round((logits.argmax(1) == truth.argmax(1)).mean(), 4)


def plant(monkeypatch, tables):
    """What each candidate would gain (mean, error) while 0, 1, ... are taken."""

    def gain(search, name):
        table = tables[min(len(search.taken), len(tables) - 1)]
        return module._Gain(name, search.costs_ms[name], *table[name], search.least_se)

    monkeypatch.setattr(module._Search, "_gain", gain)


COSTS = {"a": 4.0, "b": 8.0, "c": 1.0}


@pytest.mark.parametrize(
    ("gains", "taken", "reason"),
    [
        # Of those within a standard error of the best, its edge included, the cheapest per gain.
        (
            {"a": (0.75, 0.25), "b": (0.5, 0.125), "c": (0.25, 0.125)},
            "a",
            "it gains most",
        ),
        (
            {"a": (0.5, 0.25), "b": (0.75, 0.25), "c": (0.25, 0.125)},
            "a",
            "it gains most per ms of 2 within a standard error of b (0.750 nats for 8 ms)",
        ),
        (
            {"a": (0.5, 0.125), "b": (0.75, 0.5), "c": (0.25, 0.125)},
            "c",
            "it gains most per ms of 3 within a standard error of b (0.750 nats for 8 ms)",
        ),
        # Near the best, but no more than its own standard error or than the least gain.
        (
            {"a": (0.5, 0.125), "b": (0.5, 0.25), "c": (0.25, 0.25)},
            "a",
            "it gains most",
        ),
        (
            {"a": (0.001, 0.0), "b": (0.001, 0.0), "c": (0.001, 0.0)},
            "a",
            "no candidate gains more than its standard error: the baseline stays",
        ),
        (
            {"a": (-1.0, 0.25), "b": (0.125, 0.125), "c": (0.25, 0.5)},
            "a",
            "no candidate gains more than its standard error: the baseline stays",
        ),
    ],
)
def test_who_is_taken_first(truth, monkeypatch, gains, taken, reason):
    plant(monkeypatch, [gains])
    monkeypatch.setattr(module, "MOST_EXPERTS", 1)
    held = hold(truth, dict.fromkeys("abc", 1.0))
    row = select_experts(held, COSTS).rows[0]
    assert (row.name, row.reason) == (taken, reason)


@pytest.mark.parametrize(("least_se", "places"), [(1.0, 0), (0.5, 1), (0.25, 2)])
def test_so_many_standard_errors_must_be_gained(truth, monkeypatch, least_se, places):
    unsure = {"a": (0.0625, 0.125), "b": (0.125, 0.1875), "c": (0.03125, 0.25)}
    plant(monkeypatch, [unsure, unsure, dict.fromkeys("abc", (0.0, 1.0))])
    held = hold(truth, dict.fromkeys("abc", 1.0))
    found = select_experts(held, COSTS, at_least=0, least_se=least_se)
    taken = [row.name for row in found.rows if row.taken]
    assert len(taken) == places
    whys = {1.0: "no more than its standard error"}
    left = [row.reason for row in found.rows if not row.taken]
    assert set(left) == {whys.get(least_se, f"no more than {least_se:g} standard errors")}


NOTHING = dict.fromkeys("abc", (0.125, 0.5))


@pytest.mark.parametrize("at_least", [1, 2, 3, 9])
def test_so_many_are_taken_though_none_gains(truth, monkeypatch, at_least):
    plant(monkeypatch, [NOTHING])
    found = select_experts(hold(truth, dict.fromkeys("abc", 1.0)), COSTS, at_least=at_least)
    assert len(found.stack.weights) == min(at_least, 3)


def test_beside_those_there_anyway_none_need_be_taken(truth):
    held = hold(truth, {"a": 2.0, "useless": 0.0})
    found = select_experts(held, {"useless": 1.0}, always=["a"], at_least=0)
    assert found.stack == fit_stack(held, ["a"])
    assert found.loss == round(held.losses(found.stack.combine(held.logits)).mean(), 4)


def test_no_more_are_taken_than_the_most(truth, monkeypatch):
    monkeypatch.setattr(module, "MOST_EXPERTS", 2)
    found = select_experts(hold(truth, {"a": 2.0, "b": 1.9, "c": 1.8}), dict.fromkeys("abc", 1.0))
    assert [row.place for row in found.rows] == [1, 2, None]
    assert found.rows[2].gain > found.rows[2].gain_se
    assert found.rows[2].reason == "enough are taken"


@pytest.mark.parametrize(
    ("left", "alone", "places"),
    [
        # b gains most but not surely, so the search ends; c counts, and is better alone than a.
        ({"b": (0.5, 0.5), "c": (0.25, 0.125)}, {"c": 3.0}, {"a": 1, "b": None, "c": 2}),
        ({"b": (0.5, 0.5), "c": (0.25, 0.25)}, {"c": 3.0}, {"a": 1, "b": None, "c": None}),
        ({"b": (0.5, 0.5), "c": (0.25, 0.125)}, {"c": 0.1}, {"a": 1, "b": None, "c": None}),
        (
            {"b": (0.5, 0.5), "c": (0.25, 0.125)},
            {"b": 4.0, "c": 3.0},
            {"a": 1, "b": None, "c": None},
        ),
    ],
)
def test_whoever_alone_beats_those_taken_and_adds_to_them_is_taken(
    truth, monkeypatch, left, alone, places
):
    first = {"a": (0.75, 0.25), "b": (0.0, 1.0), "c": (0.0, 1.0)}
    plant(monkeypatch, [first, left])
    held = hold(truth, {"a": 1.0, "b": 0.5, "c": 0.5} | alone)
    found = select_experts(held, COSTS)
    assert {row.name: row.place for row in found.rows} == places
    if places["c"]:
        assert found.rows[1].reason == "alone it beats those taken before it"
        assert found.rows[1].gain == 0.25


def test_as_good_alone_is_not_better(truth, monkeypatch):
    plant(monkeypatch, [{"a": (0.75, 0.25), "b": (0.0, 1.0)}, {"b": (0.25, 0.125)}])
    monkeypatch.setattr(module, "MOST_EXPERTS", 1)
    held = hold(truth, {"a": 1.0, "b": 3.0})
    search = module._Search(held, {"a": 1.0, "b": 1.0}, (), at_least=1, least_se=1.0)
    assert search.take()
    assert not search.take()
    search.alone["b"] = held.losses(search.logits).mean()
    search.take_better_alone()
    assert search.place("b") is None
    search.alone["b"] -= 1e-6
    search.take_better_alone()
    assert search.place("b") == 2


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


@pytest.mark.parametrize(("values", "kept"), [(168, 21), (167, 20), (80, 10), (1, 10)])
def test_many_values_are_thinned_out(monkeypatch, values, kept):
    monkeypatch.setattr(module, "MOST_VALUES", values)
    monkeypatch.setattr(module, "LEAST_CLIPS", 10)
    rows = np.eye(CLASSES)[np.arange(21) % CLASSES]
    held = HeldOut({"a": rows}, rows, np.arange(21), ONE)
    thin = thin_out(held, 2)
    assert thin.units.tolist() == np.round(np.linspace(0, 20, kept)).tolist()
    assert (thin is held) == (kept == 21)


def test_the_search_counts_those_that_are_there_anyway(truth, monkeypatch):
    monkeypatch.setattr(module, "MOST_VALUES", 30 * CLASSES * 3)
    monkeypatch.setattr(module, "LEAST_CLIPS", 1)
    held = hold(truth, {"a": 2.0, "b": 2.0, "c": 1.0})
    thin = held.pick(np.round(np.linspace(0, CLIPS - 1, 30)).astype(int))
    row = select_experts(held, {"a": 1.0}, always=["b", "c"]).rows[0]
    assert row.alone == round(thin.losses(thin.logits["a"]).mean(), 4)


@pytest.mark.parametrize("clips", [30, CLIPS])
def test_one_more_answer_is_judged_on_sources_that_its_weight_does_not_know(truth, clips):
    held = hold(truth, {"a": 1.5, "b": 1.0, "better": 3.0, "useless": 0.0})
    copied = {**held.logits, "copy": held.logits["a"]}
    held = HeldOut(copied, truth, held.units, ONE).pick(np.arange(clips))
    rows = {name: judge_addition(held, ["a", "b"], name, 9.87654) for name in held.logits}
    assert {name for name, row in rows.items() if row.taken} == {"better"}
    row = rows["better"]
    assert row.gain > row.gain_se > 0.0
    assert (row.ms, row.reason) == (9.877, "more than a standard error")
    assert row.alone == round(held.losses(held.logits["better"]).mean(), 4)
    assert row.weight == round(fit_stack(held, ["a", "b", "better"]).weights["better"], 4)
    assert rows["useless"].gain <= rows["useless"].gain_se
    assert rows["copy"].gain == pytest.approx(0.0, abs=5e-3)
    assert (rows["copy"].weight, rows["copy"].place) == (0.0, None)
    assert rows["copy"].reason == "no more than a standard error"


def test_the_gain_of_one_more_answer_is_that_of_a_slow_loop(truth):
    held = hold(truth, {"a": 1.0, "b": 1.5}).pick(np.arange(30))
    folds, gains = fold_units(held.units), np.zeros(30)
    for fold in set(folds):
        known, fresh = held.pick(folds != fold), held.pick(folds == fold)
        for sign, names in [(1, ["a"]), (-1, ["a", "b"])]:
            weights = fit_weights(known.table(names), known.rows, ONE, l2=JUDGING_L2)
            mixed = np.tensordot(weights, fresh.table(names), 1)
            gains[folds == fold] += sign * fresh.losses(mixed)
    row = judge_addition(held, ["a"], "b", 1.0)
    assert (row.gain, row.gain_se) == mean_and_error(gains, held.units)
