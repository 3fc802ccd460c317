"""Held-out answers -> routing: what nothing tells stays unsure, several labels have no top."""

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.fixtures.closed import COSTS_MS
from xmoe.base.errors import ConfigError
from xmoe.base.task import task_of
from xmoe.pipeline.settle import Costs, settle_routing

GLANCE_MS = 0.5


def settle(mixed, table, budget, classes="abcd"):
    model, costs = deepcopy(mixed.model), Costs(COSTS_MS, lambda: GLANCE_MS)
    return settle_routing(model, table, mixed.fitted.stacks, costs, budget, classes)


@pytest.fixture(scope="module")
def settled(mixed):
    return settle(mixed, mixed.table, "accuracy")


def test_routing_holds_costs_and_a_temperature_for_each_number_of_experts(settled, mixed):
    routing, names = settled.routing, mixed.fitted.names
    assert routing.costs_ms == tuple(COSTS_MS[name] for name in names)
    assert len(routing.temperatures) == len(names) + 1
    assert routing.glance_ms == 0.5
    assert set(routing.reasons) == {"windows", "k", "promise", "uncertain"}
    assert routing.k_price in [point.price for point in settled.priced.points]


def test_a_budget_in_milliseconds_is_kept_on_the_mean(mixed):
    most = 0.5 + sum(COSTS_MS[name] for name in mixed.fitted.names)
    for aim in (0.5, 0.5 * (0.5 + most)):
        found = settle(mixed, mixed.table, f"{aim}ms")
        point = next(p for p in found.priced.points if p.price == found.priced.price)
        near = min(abs(p.mean_ms - aim) for p in found.priced.points)
        assert abs(point.mean_ms - aim) == pytest.approx(near)
    with pytest.raises(ConfigError, match="budget"):
        settle(mixed, mixed.table, "soon")


def test_sets_hold_the_truth_about_as_often_as_asked_on_sources_left_out(settled, mixed):
    clips = int(mixed.table.clips.max()) + 1
    assert len(settled.conformal.scores) == clips
    for measured in settled.conformal.measured:
        slack = 3.0 * np.sqrt(measured.alpha * (1.0 - measured.alpha) / clips)
        assert measured.coverage >= 1.0 - measured.alpha - slack


def test_what_nothing_tells_is_answered_nearly_flat(leaky):
    found = settle(leaky, leaky.table, "accuracy", "ab")
    assert found.conformal.measured[0].mean_size > 1.5


def test_several_labels_have_no_doubt_of_one_top_probability_and_no_sets(mixed):
    many = replace(mixed.table, task=task_of("multi_label"))
    found = settle(mixed, many, "accuracy")
    assert found.routing.uncertain_below == 0.0
    assert "several labels" in found.doubt.reason
    assert found.conformal is None


def test_a_glance_is_timed_as_the_filled_router_needs_it(mixed):
    model, seen = deepcopy(mixed.model), []
    model.router.weights.zero_()
    model.router.derive()

    def time_glance():
        seen.append(torch.equal(model.router.weights, mixed.model.router.weights))
        return GLANCE_MS

    costs = Costs(COSTS_MS, time_glance)
    settle_routing(model, mixed.table, mixed.fitted.stacks, costs, "accuracy", "abcd")
    assert seen == [True]
