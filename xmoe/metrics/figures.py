"""Probabilities + targets -> figures, each written once as a function of weights per clip.

Unit weights give the figure itself; a matrix of resampled weights gives its bootstrap in a few
matrix products. Shapes: n clips, C classes, R resamples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xmoe.base.task import Array, Task

NUM_BINS = 15
SMALLEST = 1e-12


@dataclass(frozen=True)
class Clips:
    """What each clip contributes to the figures.

    ``truth`` and ``said`` [n, C] are 0 or 1; ``right``, ``nll`` and ``brier`` [n]; ``confidence``
    and ``outcome`` [n, decisions] of the answer or, for several labels, of each of them; ``gap``
    [n, bins] is outcome minus confidence in its bin.
    """

    task: Task
    probabilities: Array
    truth: Array
    said: Array
    right: Array
    nll: Array
    brier: Array
    confidence: Array
    outcome: Array
    gap: Array


def prepare_clips(probabilities: npt.ArrayLike, targets: npt.ArrayLike, task: Task) -> Clips:
    """What each clip contributes, from probabilities [n, C] and a task's targets.

    Raises ValueError if shapes disagree, a number is not finite, or there is no clip.
    """
    p = np.asarray(probabilities, dtype=np.float64)
    if p.ndim != 2 or p.shape[1] < 2 or len(p) == 0:
        raise ValueError(f"probabilities must be [n, C] with n >= 1 and C >= 2, not {p.shape}")
    if not np.isfinite(p).all() or p.min() < -1e-6 or p.max() > 1 + 1e-6:
        raise ValueError("probabilities must be finite and from 0 to 1")
    p = np.clip(p, 0.0, 1.0)
    if task.exclusive and np.abs(p.sum(1) - 1.0).max() > 1e-3:
        raise ValueError("probabilities of one clip must sum to one")
    truth = task.rows(np.asarray(targets), p.shape[1])
    if len(truth) != len(p):
        raise ValueError(f"there are targets of {len(truth)} clips, probabilities of {len(p)}")
    said = task.said(p).astype(np.float64)
    both, either = (said * truth).sum(1), np.maximum(said, truth).sum(1)
    right = np.where(either > 0, both / np.maximum(either, 1), 1.0)
    if task.exclusive:
        nll = -np.log(np.clip((p * truth).sum(1), SMALLEST, 1.0))
        confidence, outcome, brier = p.max(1)[:, None], right[:, None], ((p - truth) ** 2).sum(1)
    else:
        q = np.clip(p, SMALLEST, 1 - SMALLEST)
        nll = -(truth * np.log(q) + (1 - truth) * np.log(1 - q)).mean(1)
        confidence, outcome, brier = p, truth, ((p - truth) ** 2).mean(1)
    gap = np.zeros((len(p), NUM_BINS))
    rows = np.broadcast_to(np.arange(len(p))[:, None], confidence.shape)
    np.add.at(gap, (rows, bin_of(confidence)), outcome - confidence)
    return Clips(task, p, truth, said, right, nll, brier, confidence, outcome, gap)


def bin_of(confidence: Array) -> npt.NDArray[np.intp]:
    """Which of 15 bins of equal width each confidence falls into."""
    return np.minimum((confidence * NUM_BINS).astype(np.intp), NUM_BINS - 1)


def measure(clips: Clips, weights: Array) -> dict[str, Array]:
    """Each figure [R] under weights per clip [R, n]."""
    total = weights.sum(1)
    hit = weights @ (clips.truth * clips.said)
    positive, claimed = weights @ clips.truth, weights @ clips.said
    recall = hit / np.maximum(positive, SMALLEST)
    present = positive > 0
    if not clips.task.exclusive:
        negative = total[:, None] - positive
        right_negative = negative - (claimed - hit)
        recall = (recall + right_negative / np.maximum(negative, SMALLEST)) / 2
        present &= negative > 0
    seen = positive + claimed
    result = {
        "accuracy": weights @ clips.right / total,
        "macro_f1": _mean_over(2 * hit / np.maximum(seen, SMALLEST), seen > 0),
        "balanced_accuracy": _mean_over(recall, present),
    }
    if not clips.task.exclusive:
        result["map"] = _mean_average_precision(clips, weights)
    return result | {
        "ece": np.abs(weights @ clips.gap).sum(1) / (total * clips.confidence.shape[1]),
        "nll": weights @ clips.nll / total,
        "brier": weights @ clips.brier / total,
    }


def _mean_over(values: Array, present: npt.NDArray[np.bool_]) -> Array:
    """Means [R] over the classes of values [R, C] that are present; 0 if none is."""
    return np.asarray((values * present).sum(1) / np.maximum(present.sum(1), 1))


def _mean_average_precision(clips: Clips, weights: Array) -> Array:
    """Mean [R] of average precision over the labels that occur; ties count as one."""
    columns, present = [], []
    for scores, truth in zip(clips.probabilities.T, clips.truth.T, strict=True):
        order = np.argsort(-scores, kind="stable")
        ends = np.searchsorted(-scores[order], -scores[order], side="right") - 1
        sorted_weights = weights[:, order]
        hits = sorted_weights * truth[order]
        found, seen = hits.cumsum(1), sorted_weights.cumsum(1)
        precision = found[:, ends] / np.maximum(seen[:, ends], SMALLEST)
        columns.append((precision * hits).sum(1) / np.maximum(found[:, -1], SMALLEST))
        present.append(found[:, -1] > 0)
    return _mean_over(np.stack(columns, 1), np.stack(present, 1))
