"""Validation clips -> thresholds; runs without them and classes with few clips fall back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xmoe.annotate.thresholds import (
    FEWEST_CLIPS,
    HIGHEST,
    background_of,
    best_threshold,
    choose_thresholds,
    read_thresholds,
)
from xmoe.base.errors import ConfigError, RunFolderError
from xmoe.features.store import SpectrogramStore
from xmoe.run.folder import RunFile, RunFolder


def f1_at(p, truth, threshold, weights):
    hits = (weights * truth)[p >= threshold].sum()
    total = weights[p >= threshold].sum() + (weights * truth).sum()
    return 2 * hits / total


@given(
    st.lists(st.tuples(st.floats(0, 1), st.booleans(), st.sampled_from([1.0, 10.0])), min_size=2)
)
def test_no_threshold_is_better(rows):
    p, truth, weights = (np.array(column) for column in zip(*rows, strict=True))
    p, weights = p.astype(float).round(3), weights.astype(float)
    threshold, f1 = best_threshold(p, truth, weights, 0.0)
    if truth.any():
        assert f1 == pytest.approx(max(f1_at(p, truth, t, weights) for t in [*p, 0.0]))
        if 0.001 < threshold < HIGHEST:
            assert f1_at(p, truth, threshold, weights) == pytest.approx(f1)


def test_threshold_lies_between_the_last_hit_and_the_first_false_alarm():
    p, truth = np.array([0.95, 0.9, 0.6, 0.1]), np.array([True, True, False, False])
    threshold, f1 = best_threshold(p, truth, np.ones(4), 0.5)
    assert 0.6 < threshold < 0.9
    assert f1 == 1.0


def test_threshold_never_falls_below_its_limit_nor_reaches_one():
    p, truth = np.array([0.3, 0.2, 0.1]), np.array([True, False, False])
    assert best_threshold(p, truth, np.ones(3), 0.5)[0] == 0.5
    assert best_threshold(np.ones(2), np.array([True, False]), np.ones(2), 0.5)[0] <= HIGHEST
    assert best_threshold(p, np.zeros(3, bool), np.ones(3), 0.5) == (0.5, 0.0)


def test_background_weighs_more():
    p = np.array([0.95, 0.8, 0.7, 0.6])
    truth = np.array([True, False, True, True])
    assert best_threshold(p, truth, np.ones(4), 0.5)[0] < 0.6 + 1e-6
    assert best_threshold(p, truth, np.array([1, 10, 1, 1.0]), 0.5)[0] > 0.8


def test_background_is_named_or_told_by_its_name():
    assert background_of(("Noise", "noise_band", "whale")) == ("Noise",)
    assert background_of(("noise", "whale"), ()) == ()
    assert background_of(("a", "b"), ("b",)) == ("b",)
    with pytest.raises(ConfigError, match="no class is named c"):
        background_of(("a", "b"), ("c",))


def store_of(targets, num_bins=16, frames=41, seed=0):
    rng = np.random.default_rng(seed)
    values = rng.normal(-4, 1, (len(targets) * frames, num_bins)).astype(np.float16)
    offsets = np.arange(len(targets) + 1) * frames
    firsts = np.arange(len(offsets))
    names = tuple(f"clip{i}" for i in range(len(targets)))
    return SpectrogramStore(values, offsets, firsts, np.array(targets), names)


def test_few_clips_share_a_threshold(predictor):
    store = store_of([0] * FEWEST_CLIPS + [1] * (FEWEST_CLIPS - 1) + [2] * 5)
    chosen = choose_thresholds(predictor, store)
    assert chosen.background == ("background",)
    assert set(chosen.classes) == {"click", "tone"}
    click, tone = chosen.classes["click"], chosen.classes["tone"]
    assert (click.clips, tone.clips) == (FEWEST_CLIPS, FEWEST_CLIPS - 1)
    assert click.f1 is not None
    assert tone.f1 is None
    assert "together" in tone.reason
    assert "background counted 10 times" in click.reason
    assert all(0.5 <= t <= HIGHEST for t in chosen.values().values())


def test_thresholds_of_a_run(predictor, tmp_path):
    folder = RunFolder(tmp_path)
    assert read_thresholds(folder, ("a", "noise")).values() == {"a": 0.5}
    chosen = choose_thresholds(predictor, store_of([0, 1, 2] * 9))
    folder.write_record(RunFile.EVENTS, chosen)
    assert read_thresholds(folder, predictor.config.classes) == chosen
    folder.file(RunFile.EVENTS).write_text('{"classes": 3}')
    with pytest.raises(RunFolderError, match=RunFile.EVENTS):
        read_thresholds(folder, ())
