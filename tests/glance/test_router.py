"""The router: what it measures, which experts it may name, and how many it asks."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fixtures.mixtures import cnn_specs
from xmoe.base.config import ModelConfig
from xmoe.glance.evidence import describe_belief, measure_conditions
from xmoe.glance.router import Router, Routing, choose_counts, count_costs

EVIDENCE = {"features": 16, "saliency": 8 + 8 + 6, "belief": 5, "conditions": 8}
promise_rows = st.lists(
    st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), min_size=4, max_size=4),
    min_size=1,
    max_size=5,
)


@pytest.mark.parametrize("k_max", [None, 0, 1, 2, 3, 9])
@given(promises=promise_rows, price=st.sampled_from([-0.25, 0.0, 0.125, 0.25, 1.0]))
@settings(deadline=None, max_examples=25)
def test_count_is_the_best_promise_less_price_with_ties_to_few(k_max, promises, price):
    got = choose_counts(torch.tensor(promises), price, k_max)
    for count, row in zip(got.tolist(), promises, strict=True):
        allowed = row if k_max is None else row[: k_max + 1]
        net = [promise - price * k for k, promise in enumerate(allowed)]
        assert count == net.index(max(net))


@given(
    promises=promise_rows,
    cheap=st.floats(0, 1, allow_subnormal=False),
    dear=st.floats(0, 1, allow_subnormal=False),
)
@settings(deadline=None, max_examples=60)
def test_a_higher_price_never_asks_more_experts(promises, cheap, dear):
    cheap, dear = sorted((cheap, dear))
    row = torch.tensor(promises)
    assert (choose_counts(row, dear) <= choose_counts(row, cheap)).all()


def test_price_weighs_the_gain_of_each_expert():
    promises = torch.tensor([[0.5, 0.7, 0.8]])
    prices = [0.0, 0.09, 0.11, 0.19, 0.21]
    assert [int(choose_counts(promises, price)) for price in prices] == [2, 2, 1, 1, 0]


def test_few_experts_win_ties():
    assert choose_counts(torch.tensor([[0.5, 0.5, 0.5], [0.1, 0.4, 0.4]]), 0.0).tolist() == [0, 1]


def test_gate_sums_to_one_over_allowed_experts():
    routing = Routing(torch.tensor([[0.0, -math.inf, 0.0]]), torch.zeros(1, 2))
    assert routing.gate.tolist() == [[0.5, 0.0, 0.5]]


@pytest.mark.parametrize("kind", EVIDENCE)
def test_each_kind_of_evidence_routes_alone(build, specs, kind):
    model = build(router_evidence=(kind,))
    glance = model.glance(specs)
    assert model.router.normalise.num_features == EVIDENCE[kind]
    assert glance.gate_logits.shape == (3, 4)
    assert glance.count_logits.shape == (3, 3)
    assert glance.gate_logits.std(0).max() > 1e-4
    assert ((glance.routing.promises >= 0) & (glance.routing.promises <= 1)).all()


def test_evidence_is_laid_out_in_the_order_of_the_configuration(build, specs):
    glance = build().glance(specs)
    given = {
        "features": glance.stem.features,
        "cells": glance.cells,
        "belief": torch.softmax(glance.stem.logits, 1),
        "spec": specs,
    }
    both = build(router_evidence=("conditions", "belief")).router.measure_evidence(**given)
    torch.testing.assert_close(both[:, :8], measure_conditions(specs))
    torch.testing.assert_close(both[:, 8:], describe_belief(given["belief"]).detach())


def test_feature_evidence_is_mean_and_maximum(build, specs):
    features = build().glance(specs).stem.features.detach()
    evidence = build(router_evidence=("features",)).router.measure_evidence(
        features=features, cells=specs, belief=specs, spec=specs
    )
    slow = torch.cat([features.flatten(2).mean(2), features.flatten(2).amax(2)], 1)
    torch.testing.assert_close(evidence, slow)


def test_saliency_evidence_reads_the_map_where_it_is_salient(build):
    features = torch.rand(1, 8, 8, 5, generator=torch.Generator().manual_seed(0))
    cells = torch.zeros(1, 8, 5)
    cells[0, 3, 2] = 0.5
    evidence = build(router_evidence=("saliency",)).router.measure_evidence(
        features=features, cells=cells, belief=cells, spec=cells
    )
    torch.testing.assert_close(evidence[0, :8], features[0, :, 3, 2])


def test_evidence_is_detached_from_the_stem(build, specs):
    glance = build().glance(specs)
    assert glance.stem.features.requires_grad
    assert not glance.evidence.requires_grad


def test_a_prior_adds_its_logarithm_to_the_gate(build, specs):
    plain = build().glance(specs)
    raised = build(expert_priors={"low": 4.0}).glance(specs)
    shift = (raised.gate_logits - plain.gate_logits).detach()
    assert shift[:, 1].tolist() == pytest.approx([math.log(4.0)] * 3, abs=1e-5)
    assert shift[:, [0, 2, 3]].abs().max() == 0.0
    assert (raised.routing.gate[:, 1] > plain.routing.gate[:, 1]).all()


def test_masked_experts_have_no_gate_at_all(model, specs):
    glance = model.glance(specs)
    assert glance.gate_logits[:, 3].tolist() == [-math.inf] * 3
    assert glance.routing.gate[:, 3].tolist() == [0.0] * 3
    assert glance.routing.gate.sum(1).tolist() == pytest.approx([1.0] * 3)


def test_masks_and_priors_come_from_the_configuration_not_from_weights():
    config = ModelConfig(
        experts=cnn_specs(), num_classes=3, expert_priors={"low": 2.0}, masked_experts=("mid",)
    )
    assert {"log_prior", "allowed"}.isdisjoint(Router(config, num_rows=16).state_dict())


def test_where_costs_are_known_the_price_is_per_millisecond():
    promises = torch.tensor([[0.5, 0.7, 0.8]])
    counts = [int(choose_counts(promises, 0.01, costs_ms=costs)) for costs in ((1, 1), (1, 20))]
    assert counts == [2, 1]
    assert int(choose_counts(promises, -1.0, costs_ms=(1.0, 20.0))) == 2
    assert count_costs(3, (1.0, 20.0), promises.device).tolist() == [0.0, 1.0, 21.0]
    assert count_costs(3, (), promises.device).tolist() == [0, 1, 2]
