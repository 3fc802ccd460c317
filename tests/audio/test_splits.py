"""Holding out: whole groups, classes in proportion, and the same whatever the order."""

from collections import Counter

import numpy as np
import pytest

from xmoe.audio.splits import hold_out


def draw(num_groups: int, per_group: int, classes: int) -> tuple[list[str], list[tuple[str, ...]]]:
    groups = [f"g{i}" for i in range(num_groups) for _ in range(per_group)]
    labels = [(f"c{i % classes}",) for i in range(num_groups) for _ in range(per_group)]
    return groups, labels


@pytest.mark.parametrize("fraction", [0.1, 0.15, 0.3])
def test_every_class_gives_its_share(fraction):
    groups, labels = draw(400, 1, 4)
    mask = hold_out(groups, labels, fraction=fraction, seed=0)
    held = Counter(label for label, out in zip(labels, mask, strict=True) if out)
    assert set(held.values()) == {round(fraction * 100)}


def test_groups_are_kept_whole():
    groups, labels = draw(60, 7, 5)
    mask = hold_out(groups, labels, fraction=0.2, seed=3)
    held = {group for group, out in zip(groups, mask, strict=True) if out}
    kept = {group for group, out in zip(groups, mask, strict=True) if not out}
    assert not held & kept
    assert 0.15 < mask.mean() < 0.25


def test_groups_of_several_classes_and_sizes_come_near(rng):
    groups = [f"g{i}" for i in rng.integers(0, 50, 1000)]
    labels = [(f"c{i}",) for i in rng.integers(0, 6, 1000)]
    mask = hold_out(groups, labels, fraction=0.2, seed=0)
    for name in {label for row in labels for label in row}:
        of_class = np.array([row[0] == name for row in labels])
        assert mask[of_class].mean() == pytest.approx(0.2, abs=0.06)


def test_the_order_of_rows_does_not_matter(rng):
    groups, labels = draw(50, 3, 4)
    mask = hold_out(groups, labels, fraction=0.2, seed=1)
    order = rng.permutation(len(groups))
    shuffled = hold_out(
        [groups[i] for i in order], [labels[i] for i in order], fraction=0.2, seed=1
    )
    np.testing.assert_array_equal(shuffled, mask[order])


def test_seeds_differ():
    groups, labels = draw(50, 1, 2)
    masks = [hold_out(groups, labels, fraction=0.2, seed=seed) for seed in (0, 1)]
    assert (masks[0] != masks[1]).any()


def test_a_class_of_two_groups_gives_one_and_a_class_of_one_gives_none():
    labels = [("a",), ("a",), ("b",)]
    mask = hold_out(["x", "y", "z"], labels, fraction=0.15, seed=0)
    assert mask[:2].sum() == 1
    assert not mask[2]


def test_several_labels_and_none_are_shared_out():
    groups = [str(i) for i in range(300)]
    labels = [[("a", "b"), ("b",), ()][i % 3] for i in range(300)]
    mask = hold_out(groups, labels, fraction=0.2, seed=0)
    for kind in range(3):
        assert mask[kind::3].mean() == pytest.approx(0.2, abs=0.05)
