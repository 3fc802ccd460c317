"""The oracle finds the one patch that a planted model looks at, and covers every cell."""

import copy

import pytest
import torch

from xmoe.explain.maps.methods import METHODS
from xmoe.explain.maps.occlusion import occlusion, patch_masks, patch_size, repeat_rows
from xmoe.explain.mask_sound import MaskableSound
from xmoe.explain.targets import ClassTarget, ExpertsTarget, KTarget
from xmoe.explain.trace import trace_plan


def test_patches_cover_every_cell_and_have_one_size():
    masks = patch_masks(32, 41)
    assert patch_size(32, 41) == (4, 4)
    assert bool(masks.any(0).all())
    assert masks.sum((1, 2)).unique().tolist() == [16]


@pytest.mark.parametrize("frames", [101, 251, 1001])
def test_the_cost_does_not_grow_with_the_clip(frames):
    assert 300 <= len(patch_masks(64, frames)) <= 400


class CellTarget:
    """Scores how loud one cell is: the map must be high there and zero far away."""

    def score(self, trace):
        return trace.spec[:, 9, 23]


def test_only_patches_over_the_cell_count(model, specs, subject):
    plan = model.plan(specs, subject.routing, k=1)
    found = occlusion(model, specs, plan, CellTarget())
    assert torch.equal(found[:, 9, 23], found.amax((1, 2)))
    assert float(found[:, 9, 23].min()) > 1.0
    assert not found[:, :, :16].any()
    assert not found[:, 20:].any()


def test_the_event_of_a_trained_model_is_found(trained_subject, boxed):
    specs, ids, masks = (part[:3] for part in boxed)
    plan = trained_subject.model.plan(specs, trained_subject.routing)
    maps = METHODS["occlusion"](trained_subject.model, specs, plan, ClassTarget((0, 1, 2)))
    assert ids.tolist() == [0, 1, 2]
    inside = (maps * masks).sum((1, 2)) / maps.sum((1, 2))
    assert float(inside.min()) > 3 * float(masks.float().mean())


@pytest.mark.parametrize("target", [ExpertsTarget((1,), ("low",)), KTarget(1, 0, 0.01)])
def test_a_fall_is_that_of_the_score_itself(model, specs, subject, target):
    spec = specs[:1]
    plan = model.plan(spec, subject.routing, k=1)
    found = occlusion(model, spec, plan, target)
    whole = float(target.score(trace_plan(model, spec, plan, gradient=False)))
    assert float(found.max()) < 2 * abs(whole) + 5.0
    assert float(found.max()) > 0.0


def test_copies_of_a_plan_answer_alike(model, specs, subject):
    prepared = model.prepare(specs, subject.routing, k=2)
    many = [repeat_rows(one, 2) for one in prepared]
    single, double = subject.carry_out(*prepared), subject.carry_out(*many)
    torch.testing.assert_close(double, torch.cat([single, single]))


def test_no_gradient_is_kept(model, specs, subject):
    plan = model.plan(specs, subject.routing, k=1)
    trace = trace_plan(copy.deepcopy(model), specs, plan, gradient=False)
    assert not trace.logits.requires_grad


def test_who_hears_is_occluded_in_larger_patches(closed, heard):
    spec, sound = heard
    plan, _ = closed.model.prepare(spec[None], closed.routing, sound=sound, k=1)
    masked = MaskableSound.of(closed.frontend, sound, spec.shape[1])
    found = occlusion(closed.model, spec[None], plan, ClassTarget(0), masked)
    assert found.shape == (1, *spec.shape)
    assert float(found.max()) > 0.0
    assert len(patch_masks(64, 251, coarser=2)) < 100
