"""Probabilities + targets -> the figures of ``metrics.json``, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import (
    confusion_matrix,
    multilabel_confusion_matrix,
    precision_recall_fscore_support,
)

from xmoe.base.task import Array, Task
from xmoe.metrics.bootstrap import find_interval, make_resampler, resample
from xmoe.metrics.calibration import reliability_curve
from xmoe.metrics.figures import Clips, measure, prepare_clips


def compute_metrics(
    probabilities: npt.ArrayLike,
    targets: npt.ArrayLike,
    *,
    task: Task,
    num_bootstrap: int = 1000,
    seed: int = 0,
    groups: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Figures of probabilities [n, C] against class ids [n], or 0/1 labels [n, C].

    ``accuracy`` (for several labels: the mean Jaccard overlap of labels over one half),
    ``macro_f1`` and ``balanced_accuracy`` over the classes that occur, ``map`` (several labels),
    ``ece`` (15 bins of equal width), ``nll`` in nats, ``brier``; each with ``<name>_ci``, a 95 %
    bootstrap interval [low, high]. It is the percentile interval, for ``ece`` the reflected one
    (resampling inflates it), and Wilson's if no resample differs, as when every clip is right.
    ``majority_accuracy`` is what the best constant answer scores. Also ``confusion`` (rows are
    truth; for several labels [[tn, fp], [fn, tp]] of each), ``per_class``, ``calibration``.

    Raises ValueError if shapes disagree, a number is not finite, or there is no clip. Source: Guo
    et al. 2017, arXiv:1706.04599 (ECE); Efron and Tibshirani 1993 (bootstrap).
    """
    clips = prepare_clips(probabilities, targets, task)
    num_clips = len(clips.right)
    figures = measure(clips, np.ones((1, num_clips)))
    result: dict[str, Any] = {"task": task.name, "num_clips": num_clips}
    result |= {name: float(values[0]) for name, values in figures.items()}
    result["majority_accuracy"] = _majority_accuracy(clips.truth)
    if num_bootstrap > 0:
        draw, units = make_resampler(num_clips, groups, seed)
        resampled = resample(clips, draw, num_bootstrap)
        for name, values in resampled.items():
            interval = find_interval(name, result[name], values, units)
            if interval is not None:
                result[f"{name}_ci"] = interval
    result["confusion"] = _confusion(clips)
    result["per_class"] = _per_class(clips)
    result["calibration"] = reliability_curve(clips)
    return result


def _majority_accuracy(truth: Array) -> float:
    """The score of the commonest class, or the labels of most clips, as a constant answer."""
    share = truth.mean(0)
    constant = (share > 0.5).astype(np.float64)
    if not constant.any():
        constant[share.argmax()] = 1.0
    either = np.maximum(truth, constant).sum(1)
    return float(((truth * constant).sum(1) / np.maximum(either, 1)).mean())


def _confusion(clips: Clips) -> list[Any]:
    """Counts [C, C], truth by row, or [C, 2, 2] for several labels."""
    if clips.task.exclusive:
        ids = range(clips.truth.shape[1])
        counts = confusion_matrix(clips.truth.argmax(1), clips.said.argmax(1), labels=list(ids))
    else:
        counts = multilabel_confusion_matrix(clips.truth, clips.said)
    rows: list[Any] = counts.tolist()
    return rows


def _per_class(clips: Clips) -> list[dict[str, float | int | None]]:
    """One row per class, in order; None if a figure has nothing to count."""
    columns = precision_recall_fscore_support(
        clips.truth, clips.said, average=None, zero_division=np.nan
    )
    names = ("precision", "recall", "f1")
    rows: list[dict[str, float | int | None]] = []
    for class_id, values in enumerate(zip(*columns, strict=True)):
        row: dict[str, float | int | None] = {"class_id": class_id, "support": int(values[3])}
        row["predicted"] = int(clips.said[:, class_id].sum())
        for name, value in zip(names, values[:3], strict=True):
            row[name] = float(value) if np.isfinite(value) else None
        rows.append(row)
    return rows
