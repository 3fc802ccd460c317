"""Rows of ClipStats -> how well the label follows from the file format alone.

A recorder, a codec or an editing habit that correlates with the class lets a classifier score
without listening. A small decision tree per feature, and a small forest on all of them, predict the
label from what is known before decoding; balanced accuracy over held-out folds is compared with
chance. Folds keep a group on one side; without groups they follow the data set's own split, both
ways, because clips of one recording are then more likely to stay together.

``threshold`` is the larger of: chance plus three standard deviations of a label-blind guess
(binomial, counting groups if they are known), and chance plus a tenth of the way to 1. Clips are
sampled by the hash of their name, so cost is bounded and the result repeats exactly.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from xmoe.base.config import Frozen, TaskName
from xmoe.profile.clip_stats import ClipStats

if TYPE_CHECKING:
    from sklearn.ensemble import ExtraTreesClassifier
    from sklearn.tree import DecisionTreeClassifier

MAX_CLIPS = 3000
MAX_LABELS = 10
NUM_FOLDS = 5
SIGMAS, MARGIN = 3.0, 0.1  # what counts as leaking; see ``threshold`` above
JOINT = ("sample_rate", "bit_depth", "encoding", "duration", "level")

Ints = npt.NDArray[np.int64]
Folds = list[tuple[Ints, Ints]]


class Leakage(Frozen):
    """Balanced accuracy per feature, what a blind guess reaches, and the verdict.

    ``accuracy`` has the keys of ``JOINT``, ``band_limit`` and ``joint``; it is empty, with the
    reason in ``note``, if the set is too small or has one class. ``folds`` says how clips were held
    out.
    """

    accuracy: dict[str, float]
    chance: float
    threshold: float
    leaking: tuple[str, ...]
    folds: str
    num_clips: int
    note: str = ""


@dataclass(frozen=True)
class _Held:
    folds: Folds
    kind: str
    keys: Ints


def measure_leakage(rows: Sequence[ClipStats], *, task: TaskName = "single_label") -> Leakage:
    """How well the label follows from format, duration and level alone.

    Single label: over classes. Multi label: the mean over the ten most frequent labels, each
    against the rest, chance 0.5. The order of ``rows`` does not matter.
    """
    ordered = sorted(rows, key=lambda row: row.clip_id)
    if task == "multi_label":
        counts = Counter(label for row in ordered for label in row.labels)
        names = sorted(counts, key=lambda name: (-counts[name], name))[:MAX_LABELS]
        results = [
            _measure(ordered, [str(name in row.labels) for row in ordered]) for name in names
        ]
        return _mean([result for result in results if result.accuracy])
    return _measure(ordered, [row.label for row in ordered])


def format_features(rows: Sequence[ClipStats]) -> dict[str, npt.NDArray[np.float64]]:
    """One matrix [n, d] per feature: what is known of a clip before decoding it."""
    formats = sorted({row.format for row in rows})

    def columns(*values: Sequence[float]) -> npt.NDArray[np.float64]:
        return np.asarray(values, dtype=np.float64).T

    features = {
        "sample_rate": columns([row.sample_rate_hz for row in rows]),
        "bit_depth": columns([row.bit_depth for row in rows]),
        "encoding": columns(
            [formats.index(row.format) for row in rows], [row.channels for row in rows]
        ),
        "duration": columns([row.duration_s for row in rows]),
        "level": columns([row.rms_db for row in rows]),
        "band_limit": columns([row.band_limit_hz or 0.0 for row in rows]),
    }
    features["joint"] = np.hstack([features[name] for name in JOINT])
    return features


def _nothing(note: str) -> Leakage:
    return Leakage(
        accuracy={}, chance=0.0, threshold=0.0, leaking=(), folds="none", num_clips=0, note=note
    )


def _mean(results: Sequence[Leakage]) -> Leakage:
    if not results:
        return _nothing("no label can be held out")
    accuracy = {
        name: math.fsum(result.accuracy[name] for result in results) / len(results)
        for name in results[0].accuracy
    }
    threshold = math.fsum(result.threshold for result in results) / len(results)
    return Leakage(
        accuracy=accuracy,
        chance=0.5,
        threshold=threshold,
        leaking=tuple(name for name, value in accuracy.items() if value > threshold),
        folds=results[0].folds,
        num_clips=results[0].num_clips,
    )


def _measure(rows: Sequence[ClipStats], labels: Sequence[str]) -> Leakage:
    chosen = _sample(rows, labels)
    rows, labels = [rows[i] for i in chosen], [labels[i] for i in chosen]
    classes, targets = np.unique(np.asarray(labels, dtype=np.str_), return_inverse=True)
    if len(classes) < 2:
        return _nothing("fewer than two classes have two clips from different groups")
    targets = targets.astype(np.int64)
    held = _hold_out(rows, targets)
    chance = 1.0 / len(classes)
    units = [len(np.unique(held.keys[targets == c])) for c in range(len(classes))]
    spread = math.sqrt(sum(chance * (1 - chance) / count for count in units)) / len(classes)
    threshold = max(chance + SIGMAS * spread, chance + MARGIN * (1.0 - chance))
    accuracy = {
        name: _balanced_accuracy(values, targets, held.folds, forest=name == "joint")
        for name, values in format_features(rows).items()
    }
    return Leakage(
        accuracy=accuracy,
        chance=chance,
        threshold=min(threshold, 1.0),
        leaking=tuple(name for name, value in accuracy.items() if value > threshold),
        folds=held.kind,
        num_clips=len(rows),
    )


def _group(row: ClipStats) -> str:
    return f"group {row.group}" if row.group else f"clip {row.clip_id}"


def _sample(rows: Sequence[ClipStats], labels: Sequence[str]) -> list[int]:
    """Choose clips in equal numbers per class, leaving out classes of a single group."""
    groups: dict[str, set[str]] = {}
    for row, label in zip(rows, labels, strict=True):
        groups.setdefault(label, set()).add(_group(row))
    usable = {label for label, names in groups.items() if len(names) >= 2}
    quota = max(MAX_CLIPS // max(len(usable), 1), 2)
    digests = [hashlib.sha256(row.clip_id.encode()).digest() for row in rows]
    taken: Counter[str] = Counter()
    chosen = []
    for index in sorted(range(len(rows)), key=digests.__getitem__):
        label = labels[index]
        if label in usable and taken[label] < quota:
            taken[label] += 1
            chosen.append(index)
    return sorted(chosen)


def _hold_out(rows: Sequence[ClipStats], targets: Ints) -> _Held:
    """Folds that keep groups together, or follow the split, or are random."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    _, groups = np.unique([_group(row) for row in rows], return_inverse=True)
    keys = groups.astype(np.int64)
    smallest = min(len(np.unique(keys[targets == c])) for c in np.unique(targets))
    count = max(min(NUM_FOLDS, smallest), 2)
    blank = np.zeros(len(rows))
    if any(row.group for row in rows):
        splitter = StratifiedGroupKFold(count, shuffle=True, random_state=0)
        return _Held(list(splitter.split(blank, targets, keys)), "group", keys)
    trained = np.array([row.split == "train" for row in rows])
    if set(targets[trained]) == set(targets[~trained]):
        sides = np.flatnonzero(trained), np.flatnonzero(~trained)
        return _Held([sides, (sides[1], sides[0])], "split", keys)
    splitter = StratifiedKFold(count, shuffle=True, random_state=0)
    return _Held(list(splitter.split(blank, targets)), "random", keys)


def _balanced_accuracy(
    values: npt.NDArray[np.float64], targets: Ints, folds: Folds, *, forest: bool
) -> float:
    """Mean recall over classes of the pooled held-out predictions."""
    num_classes = int(targets.max()) + 1
    if (values == values[0]).all():
        return 1.0 / num_classes
    guessed = np.full(len(targets), -1, dtype=np.int64)
    for train, test in folds:
        guessed[test] = _fit(values[train], targets[train], forest=forest).predict(values[test])
    recalls = [float((guessed[targets == c] == c).mean()) for c in range(num_classes)]
    return math.fsum(recalls) / num_classes


def _fit(
    values: npt.NDArray[np.float64], targets: Ints, *, forest: bool
) -> DecisionTreeClassifier | ExtraTreesClassifier:
    from sklearn.ensemble import ExtraTreesClassifier
    from sklearn.tree import DecisionTreeClassifier

    if forest:
        model = ExtraTreesClassifier(
            30, min_samples_leaf=2, class_weight="balanced", random_state=0, n_jobs=1
        )
    else:
        leaves = max(4 * (int(targets.max()) + 1), 64)
        model = DecisionTreeClassifier(
            max_leaf_nodes=leaves, min_samples_leaf=2, class_weight="balanced", random_state=0
        )
    return model.fit(values, targets)
