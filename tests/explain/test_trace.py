"""A trace gives the plan's own answer, and the gate that the router really uses."""

import copy

import pytest
import torch

from xmoe.experts.cnn import band_rows
from xmoe.explain.trace import trace_plan


@pytest.mark.parametrize("k", [0, 1, 2])
def test_logits_are_those_of_the_plan_but_for_rounding(model, specs, subject, k):
    plan, inputs = model.prepare(specs, subject.routing, k=k)
    expected = model.carry_out(plan, inputs).logits
    found = trace_plan(model, specs, plan).logits
    torch.testing.assert_close(found, expected, rtol=0, atol=0.02 if k else 1e-6)


def test_the_gate_is_the_routers(model, specs, subject):
    plan = model.plan(specs, subject.routing)
    gate = trace_plan(model, specs, plan).gate_logits
    torch.testing.assert_close(gate, model.glance(specs).gate_logits)
    assert torch.isneginf(gate[:, 3]).all()
    promises = trace_plan(model, specs, plan).promises
    torch.testing.assert_close(promises, model.glance(specs).routing.promises)


def test_only_experts_that_were_asked_have_maps(model, specs, subject):
    plan = model.plan(specs, subject.routing, k=1)
    trace = trace_plan(model, specs, plan)
    asked = {name for i, name in enumerate(plan.expert_names) if plan.weights[:, i].any()}
    assert set(trace.expert_maps) == asked
    assert sum(len(rows) for rows in trace.expert_rows.values()) == len(specs)


def test_the_gradient_is_that_of_a_finite_difference(model, specs, subject):
    double, spec = copy.deepcopy(model).double(), specs[:1].double()
    plan = double.plan(spec, subject.routing, k=2)
    trace = trace_plan(double, spec, plan)
    (gradient,) = torch.autograd.grad(trace.logits[0, 1], trace.spec)
    step = torch.zeros_like(spec)
    step[0, 9, 23] = 1e-6
    values = [trace_plan(double, spec + s, plan).logits[0, 1].item() for s in (step, -step)]
    assert float(gradient[0, 9, 23]) == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-4)


def test_experts_see_their_own_band(model, specs, subject):
    plan = model.plan(specs, subject.routing, k=3)
    trace = trace_plan(model, specs, plan)
    first, last = band_rows("low", 8)
    assert (first, last) == (0, 4)
    assert trace.expert_maps["low"].shape[2] == 2  # four rows, second convolution halves them


def test_training_mode_is_refused(model, specs, subject):
    plan = model.plan(specs, subject.routing)
    with pytest.raises(AssertionError):
        trace_plan(copy.deepcopy(model).train(), specs, plan)


@pytest.mark.parametrize("k", [0, 1, 3])
def test_experts_that_hear_enter_as_they_answer(closed, heard, k):
    spec, sound = heard
    plan, inputs = closed.model.prepare(spec[None], closed.routing, sound=sound, k=k)
    expected = closed.model.carry_out(plan, inputs).logits
    for gradient in (True, False):
        trace = trace_plan(closed.model, spec[None], plan, sound=sound, gradient=gradient)
        torch.testing.assert_close(trace.logits, expected)
    assert list(trace.expert_specs) == list(plan.expert_names[:k])
    assert not trace.expert_maps
    assert torch.isfinite(trace.promises).all()


def test_without_sound_who_hears_cannot_be_traced(closed, heard):
    plan, _ = closed.model.prepare(heard[0][None], closed.routing, sound=heard[1], k=1)
    with pytest.raises(ValueError, match="hears sound"):
        trace_plan(closed.model, heard[0][None], plan)
