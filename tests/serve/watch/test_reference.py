"""Bins from training: equal shares, nothing beyond the ends, ties kept together."""

import numpy as np
import pytest
from scipy.signal import butter, sosfilt

from xmoe.serve.watch.incoming import measure_incoming
from xmoe.serve.watch.reference import Measure, NameBins, NumberBins, Reference

LEVEL = Measure("rms_db", "dB", 1.0)
OCTAVES = Measure("fmax_eff_hz", "Hz", 1 / 12, by_ratio=True)


def test_bins_hold_equal_shares_and_none_lies_beyond_the_ends(rng):
    bins = NumberBins.of(LEVEL, rng.normal(-30, 10, 5000).tolist())
    assert len(bins.counts) == len(bins.edges) + 1 == 12
    assert bins.counts[0] == bins.counts[-1] == 0
    assert bins.counts[1:-1] / 5000 == pytest.approx(np.full(10, 0.1), abs=0.03)


def test_values_that_are_all_equal_have_one_bin_of_one_step():
    bins = NumberBins.of(LEVEL, [-20.0] * 100)
    assert bins.edges.tolist() == [-20.5, -19.5]
    assert bins.counts.tolist() == [0, 100, 0]
    assert [bins.index(value) for value in (-21.0, -20.2, -19.0)] == [0, 1, 2]


def test_many_equal_values_stay_apart_from_the_few_others():
    bins = NumberBins.of(Measure("clipping_rate", "", 0.001), [0.0] * 95 + [0.05] * 5)
    assert bins.counts.tolist() == [0, 95, 5, 0]
    assert bins.index(0.03) == 2


def test_ratios_are_compared_in_octaves():
    bins = NumberBins.of(OCTAVES, [1000.0, 2000.0, 4000.0, 8000.0])
    assert bins.index(500.0) == 0
    assert bins.index(16_000.0) == len(bins.edges)
    assert bins.labels()[0].startswith("under 97")
    low, high = map(OCTAVES.value, bins.span)
    assert low == pytest.approx(1000 * 2 ** (-1 / 12), rel=0.01)
    assert high == pytest.approx(8000 * 2 ** (1 / 12), rel=0.01)


def test_silence_lies_below_everything():
    bins = NumberBins.of(OCTAVES, [None, 1000.0, 2000.0])
    assert bins.index(None) == 0
    assert bins.counts[0] == 1
    assert NumberBins.of(OCTAVES, [None, None]).counts[0] == 2


def test_names_that_training_did_not_know_are_others():
    bins = NameBins.of(("a", "b"), ["a", "a", "b", "x"])
    assert bins.counts.tolist() == [2, 1, 1]
    assert [bins.index(name) for name in ("a", "b", "c")] == [0, 1, 2]
    assert bins.labels() == ("a", "b", "other")


def test_only_training_clips_count(clip_rows):
    rows = clip_rows(20, split="train") + clip_rows(10, split="test")
    assert Reference.of(rows, ("click", "tone")).recordings == 20
    assert Reference.of(clip_rows(10, split="test"), ("click", "tone")).recordings == 10


def test_recording_like_those_of_training_raises_no_doubt(clip_rows, sound):
    reference = Reference.of(clip_rows(40), ("click", "tone"))
    assert reference.find_doubts(measure_incoming(sound(seed=1), 8000, 0.0)) == []


@pytest.mark.parametrize(
    ("change", "rate_hz", "word"),
    [
        (lambda x: x * 0.01, 8000, "level"),
        (lambda x: x, 11_025, "rate"),
        (lambda x: sosfilt(butter(12, 900, fs=8000, output="sos"), x), 8000, "band"),
        (lambda x: np.random.default_rng(0).normal(0, 0.1, len(x)), 8000, "quality"),
    ],
)
def test_recording_outside_of_training_is_told_with_numbers(
    clip_rows, sound, change, rate_hz, word
):
    reference = Reference.of(clip_rows(40), ("click", "tone"))
    samples = change(sound(seed=1)).astype(np.float32)
    doubts = reference.find_doubts(measure_incoming(samples, rate_hz, 0.0))
    mine = [doubt for doubt in doubts if doubt.startswith(f"{word}:")]
    assert len(mine) == 1, doubts
    assert any(letter.isdigit() for letter in mine[0])
