"""Scores of a ridge with targets 0 and 1 -> log-probabilities.

A ridge ranks classes well, but its scores are far less sure than they should be. One factor on
them, chosen on held-out answers, makes probabilities. Experts are mixed by their logits [n, C]:
log-probabilities where a clip has one label, log-odds of each label where it may have many.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import expit, log_softmax, softmax

from xmoe.base.task import Task

Floats = npt.NDArray[np.float64]

SHARPNESSES: tuple[float, ...] = tuple(float(x) for x in np.logspace(-0.5, 2.5, 31))
_MIDDLE = 0.5  # a score half-way between the targets 0 and 1 has log-odds 0


def balanced_weights(rows: Floats) -> Floats:
    """Weights [n], 1 on average, by which every class of 0/1 rows [n, C] counts the same.

    A clip of several labels weighs their average, one of none as much as the average clip.
    """
    counts = rows.sum(axis=0)
    of_class = len(rows) / np.maximum(counts, 1.0) / max(int((counts > 0).sum()), 1)
    labels = rows.sum(axis=1)
    weights = np.where(labels > 0, rows @ of_class / np.maximum(labels, 1.0), 1.0)
    scaled: Floats = weights / weights.mean()
    return scaled


def fit_sharpness(held_out: Floats, rows: Floats, task: Task) -> float:
    """The factor on held-out scores [n, C] with the least log loss against 0/1 rows.

    One answer in n + 1 is assumed wrong, so that n right ones do not make an expert certain.
    """
    doubt = 1.0 / (len(rows) + 1)
    soft = rows * (1.0 - doubt) + doubt / task.count_outcomes(rows.shape[1])
    losses = [
        float(log_losses(to_logits(held_out, sharpness, task), soft, task).sum())
        for sharpness in SHARPNESSES
    ]
    return SHARPNESSES[int(np.argmin(losses))]


def to_logits(scores: Floats, sharpness: float, task: Task) -> Floats:
    """Ridge scores [n, C] as log-probabilities, or as log-odds for several labels."""
    if not task.exclusive:
        return sharpness * (scores - _MIDDLE)
    return np.asarray(log_softmax(sharpness * scores, axis=1))


def to_probabilities(logits: Floats, task: Task) -> Floats:
    """Probabilities [n, C] of logits, of one expert or mixed."""
    return np.asarray(softmax(logits, axis=1) if task.exclusive else expit(logits))


def log_losses(logits: Floats, rows: Floats, task: Task) -> Floats:
    """Log loss [n] of logits [n, C] against 0/1 rows, per label if there are many."""
    if not task.exclusive:
        losses: Floats = (np.logaddexp(0.0, logits) - rows * logits).mean(axis=1)
        return losses
    return np.asarray(-(rows * log_softmax(logits, axis=1)).sum(axis=1))
