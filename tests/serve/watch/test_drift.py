"""Drift: a known score, no alarm for the same distribution, an alarm for a shifted one."""

from dataclasses import replace

import numpy as np
import pytest

from xmoe.serve.watch.drift import Drift, population_stability, smooth, weigh, worst
from xmoe.serve.watch.incoming import measure_incoming
from xmoe.serve.watch.reference import Reference

CLASSES = ("click", "tone")


def test_known_score():
    reference, incoming = np.array([0.5, 0.3, 0.2]), np.array([0.4, 0.3, 0.3])
    by_hand = -0.1 * np.log(0.8) + 0.1 * np.log(1.5)  # 0.0629
    assert population_stability(reference, incoming) == pytest.approx(by_hand)
    assert population_stability(reference, reference) == 0.0


def test_half_a_recording_is_added_to_each_bin():
    assert smooth(np.array([0, 3])).tolist() == [0.125, 0.875]


@pytest.mark.parametrize(
    ("psi", "by_chance", "verdict"),
    [
        (0.05, 0.01, "stable"),
        (0.2, 0.3, "stable"),
        (0.2, 0.1, "moderate"),
        (0.3, 0.1, "drifted"),
        (0.9, 1.0, "stable"),
    ],
)
def test_verdict_needs_a_large_change_that_is_not_chance(psi, by_chance, verdict):
    assert weigh(psi, by_chance) == verdict


@pytest.fixture(scope="module")
def reference(clip_rows):
    return Reference.of(clip_rows(300), CLASSES)


@pytest.fixture(scope="module")
def heard(sound):
    """Measures of 300 further recordings like those of training, and their labels."""
    return [
        (measure_incoming(*make, 0.0), CLASSES[index % 2])
        for index, make in enumerate(varied(sound, range(1000, 1300)))
    ]


def varied(sound, seeds):
    for seed in seeds:
        level = 10 ** np.random.default_rng(seed).uniform(-0.5, 0.5)
        yield (sound(seed=seed % 7) * level).astype(np.float32), 8000


def test_same_distribution_is_stable(reference, heard):
    drift = Drift(reference, window=1000, at_least=50)
    for one in heard:
        drift.note(*one)
    assert {one.name: one.verdict for one in drift.judge() if one.verdict != "stable"} == {}
    assert worst(drift.judge()) == "stable"


@pytest.mark.parametrize(
    ("changes", "feature"),
    [
        ({"rms_db": -60.0}, "rms_db"),
        ({"snr_db": -15.0}, "snr_db"),
        ({"fmax_eff_hz": 500.0}, "fmax_eff_hz"),
        ({"sample_rate_hz": 44_100}, "sample_rate_hz"),
        ({"clipping_rate": 0.1}, "clipping_rate"),
        ({"duration_s": 9.0}, "duration_s"),
    ],
)
def test_shifted_feature_is_found(reference, heard, changes, feature):
    drift = Drift(reference, window=1000, at_least=50)
    for one, label in heard[:60]:
        drift.note(replace(one, **changes), label)
    found = {one.name: one for one in drift.judge()}
    assert found[feature].verdict == "drifted"
    assert found[feature].psi > found[feature].by_chance
    assert found["label"].verdict == "stable"


def test_one_class_alone_is_found(reference, heard):
    drift = Drift(reference, window=1000, at_least=50)
    for one, _ in heard[:60]:
        drift.note(one, "tone")
    found = {one.name: one for one in drift.judge()}
    assert found["label"].verdict == "drifted"
    assert found["rms_db"].verdict == "stable"


def test_few_recordings_are_not_judged(reference, heard):
    drift = Drift(reference, window=1000, at_least=50)
    assert worst(drift.judge()) == "waiting"
    assert drift.judge()[0].psi is None
    for one, label in heard[:49]:
        drift.note(replace(one, rms_db=-80.0), label)
    assert {one.verdict for one in drift.judge()} == {"waiting"}
    assert drift.count.quality == pytest.approx(sum(one.quality for one, _ in heard[:49]))


def test_what_lies_beyond_the_window_is_forgotten(reference, heard):
    drift = Drift(reference, window=60, at_least=50)
    for one, label in heard[:60]:
        drift.note(replace(one, rms_db=-80.0), label)
    assert worst(drift.judge()) == "drifted"
    for one, label in heard[60:180]:
        drift.note(one, label)
    assert drift.count.recordings == 60
    assert {one.name: sum(one.incoming) for one in drift.judge()}["rms_db"] == 60
    assert worst(drift.judge()) == "stable"


def test_what_two_routers_heard_is_judged_together(reference, heard):
    both = [Drift(reference, window=1000, at_least=50) for _ in range(2)]
    for number, (one, label) in enumerate(heard[:60]):
        both[number % 2].note(replace(one, rms_db=-80.0), label)
    assert {worst(drift.judge()) for drift in both} == {"waiting"}
    total = both[0].count + both[1].count
    assert (total.recordings, sum(total.counts["rms_db"])) == (60, 60)
    assert worst(both[0].judge(total)) == "drifted"
    assert total.quality == pytest.approx(sum(one.quality for one, _ in heard[:60]))


def test_chance_alone_seldom_alarms(reference):
    """The mark for chance holds: at n = 60, recordings drawn from training itself do not alarm."""
    bins = reference.bins["snr_db"]
    share, rng = bins.counts / bins.counts.sum(), np.random.default_rng(3)
    alarms = 0
    for _ in range(200):
        drift = Drift(reference, window=60, at_least=50)
        drift._counts["snr_db"][:] = rng.multinomial(60, share)
        drift._last.extend([((), 0.0)] * 60)
        found = next(one for one in drift.judge() if one.name == "snr_db")
        alarms += found.verdict != "stable"
    assert alarms <= 2
