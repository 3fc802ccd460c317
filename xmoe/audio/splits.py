"""Entries without a split -> train, val and test: whole groups, classes in proportion, seeded.

A group (the recordings of one ship, speaker or file) is never on two sides. The choice depends on
the groups' names and the seed only, not on the order of rows or files.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def hold_out(
    groups: Sequence[str], labels: Sequence[tuple[str, ...]], *, fraction: float, seed: int
) -> npt.NDArray[np.bool_]:
    """A mask [n] of the entries to hold out: about ``fraction`` of every class.

    Groups are kept whole. A class of at least two groups gives up at least one and keeps at least
    one. Greedy: groups in random order, large ones first, each taken if it brings the class counts
    closer to their targets.
    """
    names, group_ids = np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)
    counts = _count_labels(group_ids, labels, num_groups=len(names))
    members = (counts > 0).sum(axis=0)
    target = np.maximum(fraction * counts.sum(axis=0), np.where(members >= 2, 1.0, 0.0))
    weight = 1.0 / np.maximum(counts.sum(axis=0), 1.0)
    order = np.random.default_rng([seed, 7]).permutation(len(names))
    order = order[np.argsort(-np.bincount(group_ids)[order], kind="stable")]
    held = np.zeros(len(names), dtype=bool)
    held_counts = np.zeros(counts.shape[1])
    left = members.copy()
    for group in order:
        present = counts[group] > 0
        before = weight * (target - held_counts) ** 2
        after = weight * (target - held_counts - counts[group]) ** 2
        if (left[present] > 1).all() and after.sum() < before.sum():
            held[group] = True
            held_counts += counts[group]
            left -= present
    return np.asarray(held[group_ids], dtype=bool)


def _count_labels(
    group_ids: npt.NDArray[np.intp], labels: Sequence[tuple[str, ...]], *, num_groups: int
) -> npt.NDArray[np.float64]:
    """Counts [groups, classes]; entries without a label count as a class of their own."""
    classes = {
        name: i for i, name in enumerate(sorted({x for row in labels for x in row or ("",)}))
    }
    counts = np.zeros((num_groups, len(classes)))
    for group, row in zip(group_ids, labels, strict=True):
        for name in row or ("",):
            counts[group, classes[name]] += 1
    return counts
