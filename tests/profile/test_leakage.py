"""Planted leaks are found, honest sets are not accused, and the answer repeats."""

import random
import time

import numpy as np
import pytest

from xmoe.profile.leakage import JOINT, format_features, measure_leakage


def noise(index):
    """A number in [0, 1) that has nothing to do with the label."""
    return float(np.random.default_rng(index).random())


def honest(index, label):
    return {"duration_s": 1 + noise(index), "rms_db": -40 + 20 * noise(index + 10**6)}


@pytest.mark.parametrize(
    ("feature", "fields"),
    [
        ("sample_rate", lambda label: {"sample_rate_hz": 8000 if label == "x" else 16_000}),
        ("bit_depth", lambda label: {"bit_depth": 16 if label == "x" else 24}),
        ("encoding", lambda label: {"format": "WAV" if label == "x" else "FLAC"}),
        ("encoding", lambda label: {"channels": 1 if label == "x" else 2}),
        ("duration", lambda label: {"duration_s": 1.0 if label == "x" else 2.0}),
        ("level", lambda label: {"rms_db": -20.0 if label == "x" else -40.0}),
        ("band_limit", lambda label: {"band_limit_hz": None if label == "x" else 4000.0}),
    ],
)
def test_planted_leak_is_found_by_its_feature(make_rows, feature, fields):
    rows = make_rows(80, change=lambda i, label: {**honest(i, label), **fields(label)})
    leak = measure_leakage(rows)
    assert leak.accuracy[feature] == 1.0
    assert feature in leak.leaking
    assert leak.chance == 0.5
    assert ("joint" in leak.leaking) == (feature in JOINT)


@pytest.mark.parametrize("num_classes", [2, 5, 20])
def test_honest_set_is_not_accused(make_rows, num_classes):
    labels = [f"c{index}" for index in range(num_classes)]
    leak = measure_leakage(make_rows(400, labels=labels, change=honest))
    assert leak.leaking == ()
    assert leak.chance == pytest.approx(1 / num_classes)
    assert leak.accuracy["sample_rate"] == leak.chance
    assert leak.accuracy["level"] == pytest.approx(leak.chance, abs=0.1)


def test_imbalance_alone_is_no_leak(make_rows):
    rows = make_rows(200, labels=("x",) * 9 + ("y",), change=honest)
    assert measure_leakage(rows).leaking == ()


def test_groups_stay_on_one_side(make_rows):
    """Level names the recording, not the class: random folds would call it a leak."""

    def change(index, label):
        recording = index // 10
        return {
            "group": f"{label} {recording}",
            "rms_db": -60.0 + 3 * recording + (1.5 if label == "y" else 0.0),
        }

    rows = make_rows(200, change=change)
    grouped = measure_leakage(rows)
    apart = measure_leakage(
        make_rows(200, change=lambda i, label: {**change(i, label), "group": None})
    )
    assert grouped.folds == "group"
    assert "level" not in grouped.leaking
    assert apart.folds == "random"
    assert apart.accuracy["level"] > 0.9


def test_own_split_is_used_where_there_are_no_groups(make_rows):
    leak = measure_leakage(
        make_rows(80, change=lambda i, label: {"split": "test" if i < 20 else "train"})
    )
    assert leak.folds == "split"


def test_order_does_not_matter(make_rows):
    rows = make_rows(300, labels=("x", "y", "z"), change=honest)
    shuffled = rows.copy()
    random.Random(3).shuffle(shuffled)
    assert measure_leakage(shuffled) == measure_leakage(rows)


def test_large_set_is_sampled_evenly_and_quickly(make_rows):
    rows = make_rows(20_000, labels=("x", "x", "x", "y"), change=honest)
    started = time.process_time()
    leak = measure_leakage(rows)
    assert leak.num_clips == 3000
    assert time.process_time() - started < 20.0


def test_multi_label_is_measured_label_by_label(make_rows):
    def change(index, label):
        labels = ("x", "y") if index % 3 == 0 else (label,)
        return {"labels": labels, "rms_db": -20.0 if "x" in labels else -40.0}

    leak = measure_leakage(make_rows(90, change=change), task="multi_label")
    assert leak.chance == 0.5
    assert 0.7 < leak.accuracy["level"] <= 1.0


@pytest.mark.parametrize("count", [0, 1, 3])
@pytest.mark.parametrize("task", ["single_label", "multi_label"])
def test_sets_too_small_say_so(make_rows, count, task):
    leak = measure_leakage(make_rows(count), task=task)
    assert leak.accuracy == {}
    assert leak.leaking == ()
    assert leak.note


def test_class_of_one_group_is_left_out(make_rows):
    def change(index, label):
        return {"group": "only" if label == "z" else f"{label} {index}"}

    leak = measure_leakage(make_rows(90, labels=("x", "y", "z"), change=change))
    assert leak.num_clips == 60
    assert leak.chance == 0.5


def test_features_have_a_row_per_clip(make_rows):
    features = format_features(make_rows(7))
    assert {values.shape[0] for values in features.values()} == {7}
    assert features["joint"].shape[1] == 6
