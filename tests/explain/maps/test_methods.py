"""Every method gives a map of the right shape that depends on the weights."""

import copy

import pytest
import torch

from xmoe.explain.maps.methods import METHODS, gradient_x_input
from xmoe.explain.maps.own_maps import map_hearing
from xmoe.explain.mask_sound import MaskableSound
from xmoe.explain.scales import scales_of
from xmoe.explain.targets import ClassTarget, ExpertsTarget, KTarget
from xmoe.explain.trace import trace_plan
from xmoe.glance.saliency import saliency_map


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(
    "target",
    [ClassTarget(0), ClassTarget((2, 1, 0)), ExpertsTarget((1,), ("low",)), KTarget(1, 0)],
)
def test_maps_have_the_spectrograms_shape_and_are_not_negative(model, specs, subject, name, target):
    maps = METHODS[name](model, specs, model.plan(specs, subject.routing, k=2), target)
    assert maps.shape == specs.shape
    assert bool(torch.isfinite(maps).all())
    assert float(maps.min()) >= 0.0
    assert float(maps.sum()) > 0.0


@pytest.mark.parametrize("name", METHODS)
def test_clips_are_explained_one_by_one(model, specs, subject, name):
    plan = model.plan(specs, subject.routing, k=2)
    together = METHODS[name](model, specs, plan, ClassTarget((0, 1, 2)))
    alone = METHODS[name](
        model, specs[1:2], model.plan(specs[1:2], subject.routing, k=2), ClassTarget(1)
    )
    torch.testing.assert_close(together[1:2], alone, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_other_weights_give_another_map(model, specs, subject, name):
    other = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    maps = [
        METHODS[name](m, specs, m.plan(specs, subject.routing, k=2), ClassTarget(0)).flatten(1)
        for m in (model, other)
    ]
    likeness = torch.nn.functional.cosine_similarity(*maps)
    assert float(likeness.max()) < 0.98


def test_the_saliency_is_the_routers_own(model, specs, subject):
    plan = model.plan(specs, subject.routing)
    found = METHODS["saliency"](model, specs, plan, ClassTarget(0))
    torch.testing.assert_close(found, saliency_map(model.glance(specs).cam, specs))


def test_gradient_x_input_is_zero_where_nothing_rises(model, specs, subject):
    steady = specs.mean(2, keepdim=True).expand_as(specs).contiguous()
    plan = model.plan(steady, subject.routing, k=1)
    assert float(gradient_x_input(model, steady, plan, ClassTarget(0)).max()) < 1e-4


@pytest.mark.parametrize("name", METHODS)
def test_who_hears_has_every_map_on_the_runs_grid(closed, heard, name):
    spec, sound = heard
    plan, _ = closed.model.prepare(spec[None], closed.routing, sound=sound, k=2)
    masked = MaskableSound.of(closed.frontend, sound, spec.shape[1])
    found = METHODS[name](closed.model, spec[None], plan, ClassTarget(1), masked)
    assert found.shape == (1, *spec.shape)
    assert float(found.min()) >= 0.0
    assert float(found.max()) > 0.0
    assert not found.requires_grad


def test_a_map_of_the_label_is_that_of_every_voice(closed, heard):
    spec, sound = heard
    masked = MaskableSound.of(closed.frontend, sound, spec.shape[1])
    sums = []
    for k in (0, 3):
        plan, _ = closed.model.prepare(spec[None], closed.routing, sound=sound, k=k)
        sums.append(METHODS["gradcam"](closed.model, spec[None], plan, ClassTarget(1), masked))
    trace = trace_plan(closed.model, spec[None], plan, sound=sound)
    scales = scales_of(closed.frontend, spec.shape[1])
    own = map_hearing(closed.model, trace, plan, ClassTarget(1), spread=True)[0]
    heard_part = sum(one.bring_to(scales) for one in own.values())
    share = float(plan.stem_share(plan.k) / 1.0)
    torch.testing.assert_close(sums[1][0] - heard_part, share * sums[0][0], rtol=1e-3, atol=1e-6)
