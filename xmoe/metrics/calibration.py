"""Logits + targets -> the temperature that calibrates them, and the reliability curve."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from xmoe.base.task import Task
from xmoe.metrics.figures import NUM_BINS, Clips, bin_of

TEMPERATURES = (0.05, 20.0)


def fit_temperature(logits: Tensor, truth: Tensor, task: Task) -> float:
    """The temperature between 0.05 and 20 that makes logits [n, C] / T most likely.

    ``truth`` [n, C] is 0 or 1. One clip's worth of evidence is assumed to be labelled at random, so
    that a few clips, all answered right, do not imply certainty. Raises ValueError if a logit is
    not finite. Source: Guo et al. 2017, arXiv:1706.04599; the prior after Platt 1999.
    """
    z = logits.double()
    if not bool(torch.isfinite(z).all()):
        raise ValueError("logits must be finite")
    chance = 1.0 / task.count_outcomes(z.shape[1])
    soft = (len(z) * truth.double() + chance) / (len(z) + 1)

    def loss(log_temperature: float) -> float:
        return float(task.loss(z / float(np.exp(log_temperature)), soft))

    low, high = np.log(TEMPERATURES)
    found = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-4})
    return float(np.exp(found.x))


def reliability_curve(clips: Clips) -> dict[str, list[float]]:
    """Mean confidence, share right and count of each bin that is not empty."""
    confidence, outcome = clips.confidence.ravel(), clips.outcome.ravel()
    index = bin_of(confidence)
    count = np.bincount(index, minlength=NUM_BINS)
    used = count > 0
    sums = [np.bincount(index, values, NUM_BINS)[used] for values in (confidence, outcome)]
    means = [(total / count[used]).tolist() for total in sums]
    return {"confidence": means[0], "accuracy": means[1], "count": count[used].tolist()}
