"""Which clips race and which are held out together."""

from collections import Counter

import numpy as np
import pytest

from xmoe.audio.dataset import Example
from xmoe.policy.folds import NUM_FOLDS, PARTITIONS, make_folds, pick_clips, strata


def test_a_clip_of_several_labels_counts_for_the_rarest():
    examples = [
        Example(filepath=f"{i}.wav", split="train", labels=labels)
        for i, labels in enumerate([("a",), ("a", "b"), ("a", "c"), ("c",), ()])
    ]
    assert strata(examples) == ["a", "b", "c", "c", ""]


def test_few_clips_are_all_picked_in_order(make_examples):
    examples = make_examples(30)
    assert pick_clips(examples, 30, seed=0) == examples


def test_classes_are_picked_in_equal_numbers(make_examples):
    labels = ("a",) * 8 + ("b", "c")
    picked = pick_clips(make_examples(1000, labels=labels), 90, seed=0)
    assert Counter(strata(picked)) == {"a": 30, "b": 30, "c": 30}
    assert picked == sorted(picked, key=lambda example: example.filepath)


def test_a_small_class_gives_all_it_has(make_examples):
    labels = ("a",) * 99 + ("b",)
    picked = pick_clips(make_examples(1000, labels=labels), 100, seed=0)
    assert Counter(strata(picked)) == {"a": 90, "b": 10}


def test_picks_depend_on_the_seed_only(make_examples):
    examples = make_examples(500)
    first, again, other = (pick_clips(examples, 50, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_clips_without_groups_are_spread_in_proportion(make_examples):
    examples = make_examples(100, labels=("a", "a", "a", "b"))
    folds = make_folds(examples, seed=0)
    assert folds.kind == "stratified"
    assert folds.num_folds == NUM_FOLDS
    assert folds.ids.shape == (PARTITIONS, 100)
    labels = np.array(strata(examples))
    for part in folds.ids:
        for fold in range(NUM_FOLDS):
            assert (labels[part == fold] == "a").sum() == 15
            assert (labels[part == fold] == "b").sum() == 5


def test_partitions_differ(make_examples):
    folds = make_folds(make_examples(100), seed=0)
    assert len({part.tobytes() for part in folds.ids}) == PARTITIONS


def test_groups_stay_whole(make_examples):
    examples = make_examples(120, group_size=6)
    folds = make_folds(examples, seed=0)
    assert folds.kind == "group"
    for part in folds.ids:
        for group in np.unique(folds.units):
            assert len(np.unique(part[folds.units == group])) == 1
        sizes = np.bincount(part)
        assert sizes.max() - sizes.min() <= 6


def test_parts_of_one_file_are_a_group():
    examples = [
        Example(
            filepath=f"{index // 4}.wav",
            split="train",
            labels=("ab"[index % 2],),
            start_s=index % 4,
            end_s=index % 4 + 1.0,
        )
        for index in range(80)
    ]
    folds = make_folds(examples, seed=0)
    assert folds.kind == "group"
    assert len(np.unique(folds.units)) == 20


@pytest.mark.parametrize(
    ("group_size", "labels"),
    [
        (50, ("a", "b")),  # two groups are too few
        (10, ("a",) * 90 + ("b",) * 10),  # class b is one group
    ],
)
def test_too_few_groups_are_held_out_clip_by_clip(make_examples, group_size, labels):
    folds = make_folds(make_examples(100, labels=labels, group_size=group_size), seed=0)
    assert folds.kind == "stratified"
    assert len(np.unique(folds.units)) == 100


def test_classes_that_are_groups_of_their_own_stay_balanced():
    examples = [
        Example(filepath=f"{i}.wav", split="train", labels=("ab"[g % 2],), group=f"g{g:02d}")
        for g in range(20)
        for i in range(5 * g, 5 * g + 5)
    ]
    folds = make_folds(examples, seed=3)
    labels = np.array(strata(examples))
    for part in folds.ids:
        for fold in range(NUM_FOLDS):
            assert set(labels[part == fold]) == {"a", "b"}


def test_folds_depend_on_the_seed_only(make_examples):
    examples = make_examples(60, group_size=3)
    first, again, other = (make_folds(examples, seed=seed).ids for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
