"""Grad-CAM of planted models whose map is known."""

import copy

import pytest
import torch

from xmoe.explain.maps.gradcam import (
    expert_grad_cam,
    grad_cam,
    gradient_of,
    gradients_of,
    stem_amounts,
    stem_grad_cam,
)
from xmoe.explain.targets import ClassTarget, ExpertsTarget
from xmoe.explain.trace import trace_plan


def test_a_linear_model_of_channel_means_gives_its_weighted_channels():
    features = torch.rand(2, 3, 4, 5, requires_grad=True)
    weight = torch.tensor([2.0, -1.0, 0.0])
    score = (features.mean((2, 3)) * weight).sum()
    (gradient,) = torch.autograd.grad(score, features)
    expected = torch.relu(2.0 * features[:, 0] - features[:, 1]) / 20
    torch.testing.assert_close(grad_cam(features, gradient).detach(), expected.detach())


def test_evidence_against_is_cut_off():
    features, gradient = torch.ones(1, 1, 2, 2), -torch.ones(1, 1, 2, 2)
    assert grad_cam(features, gradient).tolist() == [[[0.0, 0.0], [0.0, 0.0]]]


def test_a_stem_that_reads_one_channel_is_explained_by_it(model, specs, subject):
    planted = copy.deepcopy(model)
    with torch.no_grad():
        planted.stem.head.weight.zero_()
        planted.stem.head.weight[1].view(8, 4)[3] = 1.0  # class 1 reads channel 3, all bands alike
    trace = trace_plan(planted, specs, planted.plan(specs, subject.routing, k=0))
    found = stem_grad_cam(trace, ClassTarget(1))
    channel = trace.stem.features.detach()[:, 3]
    shape = channel / channel.amax((1, 2), keepdim=True)
    torch.testing.assert_close(found / found.amax((1, 2), keepdim=True), shape)


def test_an_expert_has_a_map_on_its_own_grid(model, specs, subject):
    plan = model.plan(specs, subject.routing, k=3)
    trace = trace_plan(model, specs, plan)
    found = expert_grad_cam(trace, ClassTarget(0), "transient")
    assert found.shape == (3, *trace.expert_maps["transient"].shape[2:])
    assert float(found.min()) >= 0.0


def test_an_expert_nobody_asked_has_none(model, specs, subject):
    trace = trace_plan(model, specs, model.plan(specs, subject.routing, k=0))
    with pytest.raises(ValueError, match="no clip of this plan chose expert low"):
        expert_grad_cam(trace, ClassTarget(0), "low")


def test_where_no_path_leads_the_gradient_is_zero(model, specs, subject):
    trace = trace_plan(model, specs, model.plan(specs, subject.routing, k=3))
    gradient = gradient_of(
        trace, ExpertsTarget((0,), ("broadband",)), trace.expert_maps["broadband"]
    )
    assert not gradient.any()


def test_no_hook_and_no_gradient_is_left_behind(model, specs, subject):
    stem_grad_cam(trace_plan(model, specs, model.plan(specs, subject.routing, k=1)), ClassTarget(0))
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(not module._forward_hooks for module in model.modules())


def test_amounts_of_a_linear_stem_add_up_to_its_logit(closed, heard):
    spec, sound = heard
    plan, _ = closed.model.prepare(spec[None], closed.routing, sound=sound, k=0)
    trace = trace_plan(closed.model, spec[None], plan, sound=sound)
    amounts = stem_amounts(trace, ClassTarget(1))
    assert amounts.shape == (1, 4, 11)
    assert float(amounts.min()) >= 0.0
    gradients = gradients_of(trace, ClassTarget(1), [trace.stem.features, trace.spec])
    assert [g.shape for g in gradients] == [trace.stem.features.shape, trace.spec.shape]
    assert gradients_of(trace, ClassTarget(1), []) == []
