"""Intervals: they cover, they follow groups, and they stay honest where nothing varies."""

import numpy as np
import pytest

from xmoe.base.task import SingleLabel
from xmoe.metrics.bootstrap import find_interval, make_resampler, resample
from xmoe.metrics.figures import prepare_clips


def clips_right_with(probability, rng, n):
    p = np.tile([0.8, 0.2], (n, 1))
    wrong = rng.uniform(size=n) > probability
    return prepare_clips(p, wrong.astype(int), SingleLabel())


def accuracy_interval(clips, groups=None, seed=0):
    draw, units = make_resampler(len(clips.right), groups, seed)
    resampled = resample(clips, draw, 300)["accuracy"]
    return find_interval("accuracy", float(clips.right.mean()), resampled, units)


def test_the_interval_covers_the_true_accuracy_about_as_often_as_it_says(rng):
    covered = 0
    for trial in range(200):
        low, high = accuracy_interval(clips_right_with(0.8, rng, 100), seed=trial)
        covered += low <= 0.8 <= high
    assert 0.90 <= covered / 200 <= 0.99


def test_half_width_is_that_of_the_binomial(rng):
    low, high = accuracy_interval(clips_right_with(0.8, rng, 1000))
    assert (high - low) / 2 == pytest.approx(1.96 * np.sqrt(0.16 / 1000), rel=0.2)


def test_clips_of_one_group_are_drawn_together(rng):
    draw, units = make_resampler(6, ["a", "a", "a", "b", "b", "c"], seed=0)
    weights = draw(50)
    assert units == 3
    assert (weights[:, 0] == weights[:, 2]).all()
    assert (weights[:, 3] == weights[:, 4]).all()
    assert (weights[:, 0] + weights[:, 3] + weights[:, 5] == 3).all()


def test_groups_that_are_right_or_wrong_as_one_widen_the_interval(rng):
    right = np.repeat(rng.uniform(size=20) < 0.7, 20)
    p = np.tile([0.8, 0.2], (400, 1))
    clips = prepare_clips(p, (~right).astype(int), SingleLabel())
    alone = accuracy_interval(clips)
    together = accuracy_interval(clips, groups=[str(i // 20) for i in range(400)])
    assert np.diff(together)[0] > 3 * np.diff(alone)[0]


def test_blocks_do_not_change_the_resamples(monkeypatch, rng):
    clips = clips_right_with(0.7, rng, 50)
    whole = resample(clips, make_resampler(50, None, 3)[0], 20)["accuracy"]
    monkeypatch.setattr("xmoe.metrics.bootstrap.BLOCK_CELLS", 50 * 7)
    parts = resample(clips, make_resampler(50, None, 3)[0], 20)["accuracy"]
    assert parts.tolist() == whole.tolist()


def test_all_right_gets_wilsons_interval_not_certainty():
    low, high = find_interval("accuracy", 1.0, np.ones(100), units=300)
    assert low == pytest.approx(300 / (300 + 1.959964**2))
    assert high == 1.0


def test_one_unit_gives_a_wide_share_and_no_interval_for_the_rest():
    low, high = find_interval("accuracy", 0.0, np.zeros(10), units=1)
    assert (low, high) == (pytest.approx(0.0, abs=1e-9), pytest.approx(0.7935, abs=1e-3))
    assert find_interval("nll", 0.3, np.full(10, 0.3), units=1) is None


def test_calibration_error_is_reflected_about_its_value():
    resampled = np.linspace(0.10, 0.20, 1001)
    low, high = find_interval("ece", 0.12, resampled, units=50)
    assert low == pytest.approx(0.24 - 0.1975)
    assert high == pytest.approx(0.24 - 0.1025)


def test_a_group_for_every_clip_is_asked_for():
    with pytest.raises(ValueError, match="2 groups for 3 clips"):
        make_resampler(3, ["a", "b"], seed=0)
