"""Differences at equal compute: planted ones are found, with intervals that hold them."""

import numpy as np
import pytest

from xmoe.ablation.cells import WINDOW_FRACTIONS, WINDOW_SELECTORS
from xmoe.ablation.compare import (
    Resampler,
    compare_arms,
    compare_windows,
    deploy_arms,
    describe_arms,
    mean_over_k,
    trace_curves,
)
from xmoe.ablation.curves import Curve

CLIPS = 200


def line(low, high, clips=CLIPS):
    """Return a curve of K_max 2 whose first clips are right: a share from low to high."""
    mean_k = np.array([2.0, 1.0, 0.0])
    shares = np.array([high, (low + high) / 2, low])
    right = (np.arange(clips) < np.round(shares * clips)[:, None]).astype(float)
    return Curve(mean_k, right, right[::-1], np.zeros(3))


def find_row(rows, **wanted):
    """Return the one row whose fields are those wanted."""
    (row,) = [row for row in rows if all(row[key] == value for key, value in wanted.items())]
    return row


@pytest.fixture
def curves():
    arms = {"saliency": (0.5, 0.9), "features": (0.5, 0.8)}
    return {
        name: {c: [line(*ends), line(*ends)] for c in ("val", "test")}
        for name, ends in arms.items()
    }


@pytest.fixture
def resamplers():
    return {c: Resampler(CLIPS, None) for c in ("val", "test")}


def test_planted_difference_is_found_at_equal_compute(curves, resamplers):
    rows = compare_arms(curves, resamplers)
    row = find_row(rows, arm="features", condition="test", target="mean K 1")
    assert row["accuracy"]["value"] == pytest.approx(0.65)
    assert row["difference"]["value"] == pytest.approx(-0.05)
    low, high = row["difference"]["ci"]
    assert low < -0.05 < high < 0
    assert row["difference"]["by_seed"] == pytest.approx([-0.05, -0.05])
    own = find_row(rows, arm="saliency", condition="test", target="mean K 1")
    assert own["difference"]["ci"] == [0.0, 0.0]


def test_targets_that_every_arm_can_meet(curves, resamplers):
    rows = compare_arms(curves, resamplers)
    targets = [row["target"] for row in rows if row["arm"] == "features"]
    assert targets == 2 * ["mean K 0.5", "mean K 1", "any K", "K=0", "K=1", "K=2"]
    fixed = find_row(rows, arm="features", condition="test", target="K=0")
    assert fixed["accuracy"]["value"] == pytest.approx(0.5)


def test_paired_intervals_are_narrower_than_those_of_two_samples(resamplers):
    """Clips that both arms get right or wrong alike add nothing to a difference."""
    rng = np.random.default_rng(0)
    hard = (rng.random(CLIPS) < 0.5).astype(float)
    other = hard.copy()
    other[:4] = 1 - other[:4]
    resampler = resamplers["test"]
    single = resampler.estimate(hard[None])
    paired = resampler.estimate((hard - other)[None])
    assert paired.high - paired.low < (single.high - single.low) / 2


def test_seeds_are_averaged_by_clip_before_clips_are_drawn():
    values = np.stack([np.ones(50), np.zeros(50)])
    estimate = Resampler(50, None).estimate(values)
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((0.5, 0.5, 0.5))
    assert estimate.by_seed == (1.0, 0.0)


def test_clips_of_one_group_are_drawn_together():
    values = (np.arange(100) < 50).astype(float)[None]
    alone = Resampler(100, None).estimate(values)
    groups = Resampler(100, [str(i // 10) for i in range(100)])
    together = groups.estimate(values)
    assert groups.units == 10
    assert together.high - together.low > 2 * (alone.high - alone.low)


def test_price_is_chosen_on_validation_and_paid_on_test(curves, resamplers):
    test = curves["features"]["test"][0]
    curves["features"]["test"] = [Curve(test.mean_k * 0.5, test.right, test.fixed, test.loss)] * 2
    rows = deploy_arms(curves, resamplers["test"])
    row = find_row(rows, arm="features", target="mean K 1")
    assert row["mean_k"] == 0.5
    assert row["accuracy"]["value"] == pytest.approx(0.65)


def test_curve_is_traced_from_none_to_all(curves, resamplers):
    rows = [row for row in trace_curves(curves, resamplers["test"]) if row["arm"] == "saliency"]
    assert [rows[0]["mean_k"], rows[-1]["mean_k"]] == [0.0, 2.0]
    assert [rows[0]["value"], rows[-1]["value"]] == pytest.approx([0.5, 0.9])


def test_mean_over_k_is_the_mean_of_the_curve():
    assert mean_over_k(line(0.5, 0.9)).mean() == pytest.approx(0.5 + 0.4 * 1.05 / 2)


def test_windows_are_compared_with_saliency_at_the_same_share():
    shape = (2, len(WINDOW_SELECTORS), len(WINDOW_FRACTIONS), CLIPS)
    right = np.zeros(shape)
    right[:, 0] = 1.0
    whole = np.ones((2, CLIPS))
    rows = compare_windows(right, whole, Resampler(CLIPS, None))
    assert len(rows) == len(WINDOW_SELECTORS) * len(WINDOW_FRACTIONS)
    row = find_row(rows, selector="random", fraction=WINDOW_FRACTIONS[0])
    assert row["difference"]["value"] == -1.0
    assert find_row(rows, selector="saliency", fraction=1 / 8)["lost"]["value"] == 0.0


def test_arms_are_described():
    assert describe_arms(["shuffled"])["shuffled"]["shuffled"] == ("saliency",)
