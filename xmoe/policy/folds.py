"""Training clips -> the few used in the race, and the folds that hold them out.

Both treat classes in proportion and repeat exactly for a seed. Groups (recordings of one ship,
speaker or file) stay whole if there are enough of them: otherwise near-duplicates of held-out clips
are trained on and any front end looks perfect.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from xmoe.audio.dataset import Example
from xmoe.experts.ridge import Ints

NUM_FOLDS, PARTITIONS = 5, 4
LEAST_GROUPS = 5


@dataclass(frozen=True)
class Folds:
    """``ids`` [R, n]: each clip's fold in R independent partitions.

    ``units`` [n] are what is left out as one: a group or a clip.
    """

    ids: Ints
    units: Ints
    kind: Literal["group", "stratified"]

    @property
    def num_folds(self) -> int:
        return len(np.unique(self.ids[0]))


def strata(examples: Sequence[Example]) -> list[str]:
    """Each clip's label, the rarest of several; empty if it has none."""
    counts = Counter(label for example in examples for label in example.labels)
    return [
        min(example.labels, key=lambda label: (counts[label], label), default="")
        for example in examples
    ]


def pick_clips(examples: Sequence[Example], count: int, *, seed: int) -> list[Example]:
    """At most ``count`` examples in their order, the same number per class as far as possible."""
    if len(examples) <= count:
        return list(examples)
    order = np.random.default_rng([seed, 1]).permutation(len(examples)).tolist()
    labels = strata(examples)
    seen: Counter[str] = Counter()
    rank = {}
    for place, index in enumerate(order):
        rank[index] = (seen[labels[index]], place)
        seen[labels[index]] += 1
    chosen = sorted(sorted(rank, key=lambda index: rank[index])[:count])
    return [examples[index] for index in chosen]


def make_folds(examples: Sequence[Example], *, seed: int) -> Folds:
    """Four partitions into five folds, groups whole if there are enough of them.

    That is, five groups or more, and at least two per class; else clips are held out one by one.
    """
    labels = strata(examples)
    keys = [example.group_key for example in examples]
    by_class: dict[str, set[str]] = {}
    for label, key in zip(labels, keys, strict=True):
        by_class.setdefault(label, set()).add(key)
    shared = len(set(keys)) < len(keys)
    enough = len(set(keys)) >= LEAST_GROUPS and min(map(len, by_class.values())) >= 2
    if shared and enough:
        units = np.unique(np.asarray(keys, dtype=object).astype(str), return_inverse=True)[1]
        return Folds(_partitions(labels, units, seed=seed), units, "group")
    units = np.arange(len(examples))
    return Folds(_partitions(labels, units, seed=seed), units, "stratified")


def _partitions(labels: Sequence[str], units: Ints, *, seed: int) -> Ints:
    """R partitions [R, n]: which clips share a fold matters as much as which clips exist."""
    return np.stack([_spread(labels, units, seed=[seed, 2, part]) for part in range(PARTITIONS)])


def _spread(labels: Sequence[str], units: Ints, *, seed: list[int]) -> Ints:
    """A fold per clip: units in random order, large ones first, where their classes are fewest."""
    names, classes = np.unique(np.asarray(labels, dtype=object).astype(str), return_inverse=True)
    num_units = int(units.max()) + 1
    counts = np.zeros((num_units, len(names)))
    np.add.at(counts, (units, classes), 1.0)
    order = np.random.default_rng(seed).permutation(num_units)
    order = order[np.argsort(-counts.sum(axis=1)[order], kind="stable")]
    num_folds = min(NUM_FOLDS, num_units)
    share = counts.sum(axis=0)
    filled = np.zeros((num_folds, len(names)))
    chosen = np.zeros(num_units, dtype=np.int64)
    for unit in order:
        of_classes = (filled * (counts[unit] / share)).sum(axis=1)
        fold = int(np.lexsort((filled.sum(axis=1), np.round(of_classes, 9)))[0])
        chosen[unit] = fold
        filled[fold] += counts[unit]
    return chosen[units]
