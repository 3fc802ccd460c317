"""Accuracy at a mean number of experts: exact at the target, equal for every arm."""

import numpy as np
import pytest
import torch

from xmoe.ablation.curves import (
    PRICES,
    Curve,
    best_single,
    clip_right,
    draw_curve,
    mean_curve,
)
from xmoe.ablation.heads import Decisions
from xmoe.base.task import SingleLabel

ONE = SingleLabel()


def decide(observed, gate=None, promises=None):
    n = len(observed)
    if gate is None:
        gate = torch.tensor([3.0, 0.0, -1.0, -2.0]).expand(n, 4)
    if promises is None:
        promises = torch.linspace(0, 1, n).unsqueeze(1) * torch.tensor([0.0, 0.3, 0.4])
    return Decisions(gate, promises)


def test_prices_rise_from_all_to_none(unseen):
    curve = draw_curve(unseen, decide(unseen), task=ONE)
    assert (np.diff(PRICES) > 0).all()
    assert (np.diff(curve.mean_k) <= 0).all()
    assert curve.mean_k[0] == 2.0
    assert curve.mean_k[-1] == 0.0


@pytest.mark.parametrize("target", [0.0, 0.3, 0.5, 1.0, 1.7, 2.0])
def test_every_arm_meets_the_same_mean_k(unseen, target):
    """Mixing two prices spends exactly the target, whatever the promises look like."""
    for seed in range(3):
        promises = torch.rand(len(unseen), 3, generator=torch.Generator().manual_seed(seed))
        curve = draw_curve(unseen, decide(unseen, promises=promises), task=ONE)
        asked = Curve(curve.mean_k, np.repeat(curve.mean_k[:, None], 2, 1), curve.fixed, curve.loss)
        assert asked.at_mean_k(target) == pytest.approx(target, abs=1e-9)


def test_ends_of_the_curve_are_the_fixed_ends(unseen):
    curve = draw_curve(unseen, decide(unseen), task=ONE)
    np.testing.assert_array_equal(curve.at_mean_k(0.0), curve.fixed[0])
    np.testing.assert_array_equal(curve.at_mean_k(2.0), curve.fixed[2])
    assert curve.fixed[0].mean() == pytest.approx(0.5)


def test_a_target_beyond_the_curve_gives_its_end(unseen):
    curve = draw_curve(unseen, decide(unseen), task=ONE)
    np.testing.assert_array_equal(curve.at_mean_k(9.0), curve.at_mean_k(2.0))


def test_the_nearest_price_is_the_highest_of_equals():
    curve = Curve(np.array([2.0, 1.0, 1.0, 0.0]), np.zeros((4, 1)), np.zeros((3, 1)), np.zeros(3))
    assert curve.nearest_price(1.1) == 2
    assert curve.nearest_price(0.2) == 3


def test_segments_of_a_clip_are_pooled(unseen):
    halved = type(unseen)(
        **{**vars(unseen), "owner": torch.arange(400) // 2, "targets": unseen.targets[::2]}
    )
    right, loss = clip_right(halved, decide(halved), torch.zeros(400).long(), task=ONE)
    assert right.shape == (200,)
    assert loss > 0


def test_the_best_one_expert_bounds_every_gate(unseen):
    allowed = torch.tensor([True, True, False, True])
    best = best_single(unseen, task=ONE, allowed=allowed)
    for order in ([3.0, 0, 0, 0], [0, 3.0, 0, 0]):
        gate = torch.tensor(order).expand(len(unseen), 4)
        curve = draw_curve(unseen, decide(unseen, gate=gate), task=ONE)
        assert (curve.fixed[1] <= best).all()
    assert best.mean() == 1.0
    none = best_single(unseen, task=ONE, allowed=torch.zeros(4, dtype=torch.bool))
    assert none.mean() == pytest.approx(0.5)


def test_what_is_left_to_chance_is_averaged(unseen):
    gates = [
        torch.tensor(order).expand(len(unseen), 4) for order in ([3.0, 0, 0, 0], [0, 3.0, 0, 0])
    ]
    curves = [draw_curve(unseen, decide(unseen, gate=gate), task=ONE) for gate in gates]
    both = mean_curve(curves)
    np.testing.assert_allclose(both.fixed[1], (curves[0].fixed[1] + curves[1].fixed[1]) / 2)
    np.testing.assert_array_equal(both.mean_k, curves[0].mean_k)
