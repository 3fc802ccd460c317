"""What a request allows against what the router promises."""

import pytest
import torch

from xmoe.serve.limits import Limits, count_experts

# Promises of four segments for K = 0, 1, 2: the gain of an expert falls from row to row.
PROMISES = torch.tensor([[0.5, 0.8, 0.9], [0.5, 0.7, 0.72], [0.5, 0.55, 0.5], [0.9, 0.9, 0.9]])


def count(limits, price=0.0):
    return count_experts(PROMISES, [limits] * 4, price).tolist()


def test_without_limits_the_price_decides():
    assert count(Limits()) == [2, 2, 1, 0]
    assert count(Limits(), price=0.15) == [1, 1, 0, 0]


@pytest.mark.parametrize(("k_max", "expected"), [(0, [0, 0, 0, 0]), (1, [1, 1, 1, 0])])
def test_bound(k_max, expected):
    assert count(Limits(k_max=k_max)) == expected


@pytest.mark.parametrize("budget", [0.0, 0.5, 0.75, 1.0, 2.0, "latency"])
def test_mean_keeps_the_budget_and_goes_to_who_gains_most(budget):
    found = count(Limits(budget=budget))
    most = 0.5 if budget == "latency" else budget
    assert sum(found) / 4 <= most
    assert found == sorted(found, reverse=True)


def test_accuracy_asks_whenever_an_expert_promises_anything():
    assert count(Limits(budget="accuracy"), price=0.5) == [2, 2, 1, 0]


def test_each_request_has_its_own():
    none, all_of_them = Limits(k_max=0), Limits()
    limits = [none, none, all_of_them, all_of_them]
    assert count_experts(PROMISES, limits, -1.0).tolist() == [0, 0, 2, 2]
