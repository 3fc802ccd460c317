"""Weights drawn anew destroy the maps of every method offered."""

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr

from benchmarks.fresh_weights import Likeness, compare_maps, correlation, draw_weights
from benchmarks.localise import energy_in_box
from xmoe.explain.maps.methods import METHODS
from xmoe.explain.mask_sound import MaskableSound
from xmoe.explain.targets import ClassTarget
from xmoe.glance.saliency import contrast


@pytest.fixture(scope="module")
def fresh(trained):
    return [draw_weights(trained, seed) for seed in range(3)]


def test_fresh_weights_are_fresh_and_the_same_for_a_seed(trained, fresh):
    again = draw_weights(trained, 0)
    for mine, theirs in zip(again.parameters(), fresh[0].parameters(), strict=True):
        assert torch.equal(mine, theirs)
    assert not torch.equal(again.stem.head.weight, trained.stem.head.weight)
    assert not torch.equal(again.stem.head.weight, fresh[1].stem.head.weight)


def test_the_trained_model_knows_its_classes(trained_subject, boxed):
    specs, ids, _ = boxed
    assert float((trained_subject.probabilities(specs).argmax(1) == ids).float().mean()) > 0.9


@pytest.mark.parametrize("name", METHODS)
def test_fresh_weights_destroy_the_map(trained_subject, fresh, boxed, name):
    specs, ids, _ = boxed
    found = [
        compare_maps(trained_subject, fresh, specs[i : i + 1], ClassTarget(int(ids[i])), name)
        for i in range(6)
    ]
    mean = Likeness(*(float(np.mean([getattr(f, k) for f in found])) for k in vars(found[0])))
    assert mean.passes
    assert mean.raw < mean.unrelated + 0.15  # no more than two untrained models have in common


@pytest.mark.parametrize("name", METHODS)
def test_the_trained_map_finds_the_event_better_than_that_of_fresh_weights(
    trained_subject, fresh, boxed, name
):
    specs, ids, masks = boxed
    target = ClassTarget(tuple(ids.tolist()))

    def energy(model):
        maps = METHODS[name](model, specs, model.plan(specs, trained_subject.routing), target)
        return float(energy_in_box(maps, masks).mean())

    assert energy(trained_subject.model) > max(energy(model) for model in fresh)


@pytest.mark.parametrize("kind", ["contrast", "pattern"])
def test_a_map_that_fresh_weights_leave_alone_fails(trained_subject, fresh, boxed, kind):
    """What needs no weights, be it of the clip or a fixed pattern, is what the check must catch."""
    pattern = torch.rand(1, 32, 41, generator=torch.Generator().manual_seed(0))
    maps = {"contrast": contrast, "pattern": lambda spec: pattern}
    METHODS["stuck"] = lambda model, spec, plan, target, sound: maps[kind](spec)
    try:
        found = compare_maps(trained_subject, fresh, boxed[0][:1], ClassTarget(0), "stuck")
    finally:
        del METHODS["stuck"]
    assert found.raw == pytest.approx(1.0)
    assert found.unrelated == pytest.approx(1.0)
    assert not found.passes


def test_heads_on_random_kernels_are_drawn_and_their_order_stays(closed, heard):
    spec, sound = heard
    one, other = (draw_weights(closed.model, seed) for seed in range(2))
    for name, expert in one.experts.items():
        fitted = closed.model.experts[name].head.weight
        assert float(expert.head.weight.std()) == pytest.approx(float(fitted.std()), rel=0.3)
        assert not torch.equal(expert.head.weight, other.experts[name].head.weight)
        assert torch.equal(expert.ear.bank.weights, closed.model.experts[name].ear.bank.weights)
    assert torch.equal(one.router.shares, closed.model.router.shares)
    masked = MaskableSound.of(closed.frontend, sound, spec.shape[1])
    found = compare_maps(closed, [one, other], spec[None], ClassTarget(0), "gradcam", masked)
    assert abs(found.unrelated) < 0.9


def test_correlation_of_values_is_pearsons():
    generator = torch.Generator().manual_seed(0)
    one, noise = torch.randn(2, 8, 9, generator=generator)
    expected = pearsonr(one.flatten().numpy(), (one + noise).flatten().numpy()).statistic
    assert correlation(one, one + noise) == pytest.approx(float(expected), abs=1e-6)
    assert correlation(one, torch.ones(8, 9)) == 0.0
