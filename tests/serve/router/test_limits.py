"""What a request allows against what the router promises."""

import pytest
import torch
from pydantic import ValidationError

from xmoe.base.config import ASK_ALL, RoutingConfig
from xmoe.base.errors import InputError
from xmoe.serve.router.limits import Limits, count_experts

# Promises of four segments for K = 0, 1, 2: the gain of an expert falls from row to row.
PROMISES = torch.tensor([[0.5, 0.8, 0.9], [0.5, 0.7, 0.72], [0.5, 0.55, 0.5], [0.9, 0.9, 0.9]])
COSTS_MS = (1.0, 9.0)


def count(limits, price=0.0, most=None, **routing):
    known = RoutingConfig(**{"budget": 1.0, "k_price": price} | routing)
    return count_experts(PROMISES, [limits] * 4, known, most).tolist()


def test_without_limits_the_price_decides():
    assert count(Limits()) == [2, 2, 1, 0]
    assert count(Limits(), price=0.15) == [1, 1, 0, 0]


@pytest.mark.parametrize(("k_max", "expected"), [(0, [0, 0, 0, 0]), (1, [1, 1, 1, 0])])
def test_bound(k_max, expected):
    assert count(Limits(k_max=k_max)) == expected
    assert count(Limits(), most=k_max) == expected


@pytest.mark.parametrize("budget", [0.0, 0.5, 0.75, 1.0, 2.0, "latency"])
def test_mean_keeps_the_budget_and_goes_to_who_gains_most(budget):
    found = count(Limits(budget=budget))
    most = 0.5 if budget == "latency" else budget
    assert sum(found) / 4 <= most
    assert found == sorted(found, reverse=True)


def test_accuracy_asks_whenever_an_expert_promises_anything():
    assert count(Limits(budget="accuracy"), price=0.5) == [2, 2, 1, 0]


@pytest.mark.parametrize("costs_ms", [(), COSTS_MS])
def test_all_are_asked_whatever_they_promise(costs_ms):
    asked = {"price": 0.5, "most": 1, "costs_ms": costs_ms}
    assert count(Limits(budget="all"), **asked) == [2, 2, 2, 2]
    assert count(Limits(budget="all", k_max=1), **asked) == [1, 1, 1, 1]


@pytest.mark.parametrize("costs_ms", [(), COSTS_MS])
def test_accuracy_is_the_usual_answer_of_a_run_that_was_trained_for_it(costs_ms):
    trained = {"budget": "accuracy", "price": 0.02, "costs_ms": costs_ms}
    assert count(Limits(budget="accuracy"), **trained) == count(Limits(), **trained)
    assert count(Limits(), **trained) != count(Limits(), costs_ms=costs_ms)


def test_without_a_price_nobody_waits_for_the_first_answers():
    assert count(Limits(), price=ASK_ALL, most=1) == [2, 2, 2, 2]
    assert count(Limits(k_max=1), price=ASK_ALL) == [1, 1, 1, 1]
    assert count(Limits(budget=1.5), price=ASK_ALL, most=1) == [1, 1, 1, 0]


def test_each_request_has_its_own():
    none, all_of_them = Limits(k_max=0), Limits()
    limits = [none, none, all_of_them, all_of_them]
    assert count_experts(PROMISES, limits, RoutingConfig(k_price=-1.0)).tolist() == [0, 0, 2, 2]


def test_with_costs_the_price_is_that_of_a_millisecond():
    assert count(Limits(), price=0.02, costs_ms=COSTS_MS) == [1, 1, 1, 0]
    assert count(Limits(budget=1.0), costs_ms=COSTS_MS) == [2, 1, 1, 0]


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        ("0ms", [0, 0, 0, 0]),
        ("0.4ms", [0, 0, 0, 0]),
        ("1ms", [1, 1, 0, 0]),
        ("1.25ms", [1, 1, 1, 0]),
        ("3.5ms", [2, 1, 1, 0]),
        ("100ms", [2, 2, 1, 0]),
    ],
)
def test_milliseconds_bound_the_mean_cost_with_what_every_segment_costs(budget, expected):
    assert count(Limits(budget=budget), costs_ms=COSTS_MS, glance_ms=0.5) == expected


def test_milliseconds_need_a_run_that_knows_them():
    Limits(budget="20ms").check(RoutingConfig(costs_ms=COSTS_MS))
    Limits(budget=2.0).check(RoutingConfig())
    with pytest.raises(InputError, match="does not know what its experts cost"):
        Limits(budget="20ms").check(RoutingConfig())


@pytest.mark.parametrize("text", ["ms", "-1ms", "nanms", "20 s", "20ms ", "cheap"])
def test_other_words_are_no_budget(text):
    with pytest.raises(ValidationError) as caught:
        Limits(budget=text)
    (error,) = caught.value.errors()
    assert error["loc"] == ("budget",)
    assert error["msg"].endswith("or a mean cost such as 20ms")
    assert Limits(budget="2.5").budget == 2.5
