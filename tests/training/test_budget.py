"""Budgets in milliseconds, experts and accuracy -> a price; and answers that deserve doubt."""

from dataclasses import replace

import numpy as np
import pytest

from xmoe.base.config import LATENCY_K
from xmoe.base.errors import ConfigError
from xmoe.base.task import task_of
from xmoe.training.budget import (
    answers_at,
    choose_doubt,
    choose_price,
    parse_budget,
)
from xmoe.training.promise import Depths, cross_fit, fit_promises
from xmoe.training.promises import Promised

CLIPS, GLANCE_MS = 300, 0.5


@pytest.fixture(scope="module")
def planted():
    """The stem is right on easy clips, one cheap expert on half of the others, a dear one on all.

    Evidence tells who is easy; once the cheap expert has answered, also whom it did not help.
    """
    rng = np.random.default_rng(0)
    hard = rng.random(CLIPS) < 0.5
    helped = rng.random(CLIPS) < 0.5
    right = np.stack([~hard, ~hard | helped, np.ones(CLIPS, dtype=bool)], axis=1).astype(float)
    seen = np.stack([hard, rng.random(CLIPS)], axis=1) + 0.1 * rng.standard_normal((CLIPS, 2))
    heard = np.stack([hard & ~helped, seen[:, 1]], axis=1) + 0.1 * rng.standard_normal((CLIPS, 2))
    depths = Depths(("cheap", "dear"), (1.0, 10.0), (seen, heard, heard), right, np.arange(CLIPS))
    folds = tuple(
        (rows, one.model_copy(update={"first_most": 1})) for rows, one in cross_fit(depths)
    )
    rows = np.eye(2)[np.zeros(CLIPS, dtype=int)]
    mixed = np.stack([np.stack([depth, 1.0 - depth], axis=1) for depth in right.T])
    return Promised(
        promises=fit_promises(depths, first_most=1),
        depths=depths,
        mixed=mixed,
        rows=rows,
        clean=np.arange(CLIPS),
        clips=np.arange(CLIPS),
        folds=folds,
        reading="",
        task=task_of("single_label"),
    )


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        ("accuracy", ("accuracy", 0.0)),
        ("latency", ("k", LATENCY_K)),
        (2.5, ("k", 2.5)),
        ("2", ("k", 2.0)),
        ("20ms", ("ms", 20.0)),
        (" 0.5 MS", ("ms", 0.5)),
        ("99%", ("share", 99.0)),
    ],
)
def test_a_budget_is_a_word_a_number_or_milliseconds(budget, expected):
    assert parse_budget(budget, 3) == expected


@pytest.mark.parametrize("budget", ["fast", "ms", -1, "-2ms", "nan", "infms", 3.5, "20 s", "101%"])
def test_what_is_no_budget_is_refused(budget):
    with pytest.raises(ConfigError, match="budget"):
        parse_budget(budget, 3)


def test_accuracy_is_kept_at_a_fraction_of_the_cost(planted):
    priced = choose_price(planted, "accuracy", GLANCE_MS)
    (point,) = [one for one in priced.points if one.price == priced.price]
    assert point.right > 0.95
    assert point.mean_ms < 0.6 * (GLANCE_MS + 11.0)
    assert "loses no more" in priced.reason


@pytest.mark.parametrize(("glance_ms", "everyone"), [(1.0, False), (99.0, True)])
def test_who_would_save_hardly_anything_asks_everyone(planted, glance_ms, everyone):
    # Beside a glance of 99 ms the dear expert is a tenth of the cost, and half of it is saved.
    priced = choose_price(planted, "accuracy", glance_ms)
    assert (priced.price == planted_all(planted)) is everyone
    assert planted_all(planted) == priced.points[0].price


def test_everyone_is_not_asked_where_that_loses(planted):
    worse = planted.depths.right.copy()
    worse[:, 2] = 0.0
    answers = replace(planted, depths=replace(planted.depths, right=worse))
    priced = choose_price(answers, "accuracy", 99.0)
    assert priced.price != planted_all(planted)


def test_answers_that_are_as_right_but_less_sure_are_not_enough(planted):
    # The dear expert changes no answer, but gives the truth of half of the clips more.
    right = np.ones_like(planted.depths.right)
    hesitant = np.arange(CLIPS) % 2 == 0
    truth = np.stack(
        [np.where(hesitant, 0.1, 3.0), np.where(hesitant, 0.1, 3.0), np.full(CLIPS, 3.0)]
    )
    mixed = np.stack([truth, np.zeros_like(truth)], axis=2)
    depths = replace(planted.depths, right=right)
    surer = replace(planted, depths=depths, mixed=mixed)
    sure = replace(planted, depths=depths, mixed=np.stack([mixed[-1]] * 3))
    assert choose_price(surer, "accuracy", GLANCE_MS).price == planted_all(planted)
    priced = choose_price(sure, "accuracy", GLANCE_MS)
    assert next(p.mean_ms for p in priced.points if p.price == priced.price) == GLANCE_MS


def test_a_share_of_the_accuracy_is_kept_as_cheaply_as_can_be(planted):
    whole, most, some = (
        choose_price(planted, budget, GLANCE_MS) for budget in ("100%", "95%", "60%")
    )
    found = [next(p for p in one.points if p.price == one.price) for one in (whole, most, some)]
    best = max(point.right for point in whole.points)
    assert found[0].right == best
    assert found[1].right >= 0.95 * best > 0.6 * best
    assert found[0].mean_ms > found[1].mean_ms > found[2].mean_ms
    assert "keeps 95 %" in most.reason


@pytest.mark.parametrize(("budget", "name", "aim"), [("2ms", "mean_ms", 2.0), (0.5, "mean_k", 0.5)])
def test_the_price_spends_most_within_the_budget(planted, budget, name, aim):
    priced = choose_price(planted, budget, GLANCE_MS)
    means = {one.price: getattr(one, name) for one in priced.points}
    assert means[priced.price] == max(mean for mean in means.values() if mean <= aim)
    assert f"spends most within {'mean K ' * (name == 'mean_k')}{aim:g}" in priced.reason
    assert choose_price(planted, "latency", GLANCE_MS).price == pytest.approx(
        choose_price(planted, LATENCY_K, GLANCE_MS).price
    )


def test_a_budget_under_the_glance_asks_nobody_and_says_so(planted):
    priced = choose_price(planted, "0.1ms", GLANCE_MS)
    assert next(one for one in priced.points if one.price == priced.price).mean_k == 0.0
    assert "the glance alone costs more than 0.1 ms" in priced.reason


def test_costs_hold_the_glance_and_every_price_is_kept(planted):
    points = choose_price(planted, "accuracy", GLANCE_MS).points
    assert points[0].mean_ms == pytest.approx(GLANCE_MS + 11.0)
    assert points[0].mean_k == 2.0
    assert points[-1].mean_ms == GLANCE_MS
    assert points[-1].mean_k == 0.0


def test_more_than_there_are_asks_everyone(planted):
    assert choose_price(planted, 6, GLANCE_MS).price == planted_all(planted)
    assert choose_price(planted, "500ms", GLANCE_MS).price == planted_all(planted)


def planted_all(planted):
    return choose_price(planted, "latency", GLANCE_MS).points[0].price


def test_the_price_at_which_all_are_asked_asks_even_a_microsecond_without_promise(planted):
    price = planted_all(planted)
    promises = planted.promises.model_copy(update={"costs_ms": (0.001, 0.001), "first_most": 2})
    asked = promises.choose(0, planted.depths.evidence[0], price=price)
    assert (asked == 2).all()


def test_answers_are_those_of_each_rows_experts_over_their_temperature(planted):
    asked = np.arange(CLIPS) % 3
    answers = answers_at(planted, asked, (1.0, 2.0, 4.0))
    for row in range(6):
        k = row % 3
        assert answers[row] == pytest.approx(planted.mixed[k, row] / 2.0**k)


def test_unsure_answers_that_are_clearly_more_often_wrong_are_doubted():
    rng = np.random.default_rng(1)
    p = rng.uniform(0.2, 1.0, 400)
    right = (rng.random(400) < np.where(p < 0.4, 0.3, 0.95)).astype(float)
    doubt = choose_doubt(p, right, np.arange(400))
    assert 0.35 < doubt.threshold < 0.45
    assert doubt.share == pytest.approx((p < doubt.threshold).mean(), abs=0.01)
    assert doubt.wrong_under > 0.5 > 0.1 > doubt.wrong_over
    assert "wrong" in doubt.reason


def test_where_low_probability_tells_nothing_nobody_is_doubted():
    rng = np.random.default_rng(2)
    p, right = rng.uniform(0.2, 1.0, 100), (rng.random(100) < 0.8).astype(float)
    doubt = choose_doubt(p, right, np.arange(100))
    assert (doubt.threshold, doubt.share) == (0.0, 0.0)
    assert "not clearly" in doubt.reason


def test_wrong_answers_of_one_source_are_no_evidence():
    p = np.linspace(0.2, 1.0, 100)
    right = (p > 0.3).astype(float)
    units = np.where(p <= 0.3, 0, 1 + np.arange(100))
    assert choose_doubt(p, right, np.arange(100)).threshold > 0.0
    assert choose_doubt(p, right, units).wrong_under > 0.9


@pytest.mark.parametrize("p", [[0.4], [0.5, 0.5, 0.5]])
def test_too_few_or_equal_answers_leave_no_doubt(p):
    doubt = choose_doubt(np.array(p), np.zeros(len(p)), np.arange(len(p)))
    assert doubt.threshold == 0.0
    assert "too few" in doubt.reason
