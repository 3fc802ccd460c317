"""Logits + targets -> the temperature that calibrates them, and the reliability curve."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import log_expit, log_softmax

from xmoe.metrics.figures import NUM_BINS, Clips, bin_of, check_inputs

TEMPERATURES = (0.05, 20.0)


def fit_temperature(logits: npt.ArrayLike, targets: npt.ArrayLike, task: str) -> float:
    """Return the temperature that makes logits [n, C] / T most likely; between 0.05 and 20.

    One clip's worth of evidence is taken to be labelled at random, so that a few clips that are all
    answered right do not call for certainty. Raises ValueError as ``compute_metrics`` does.
    Source: Guo et al. 2017, arXiv:1706.04599; the prior after Platt 1999.
    """
    z = np.asarray(logits, dtype=np.float64)
    if not np.isfinite(z).all():
        raise ValueError("logits must be finite")
    multi_label = task == "multi_label"
    shape_only = np.full_like(z, 1.0 / z.shape[1] if z.ndim == 2 else 1.0)
    _, truth, _ = check_inputs(shape_only, targets, task)
    chance = 0.5 if multi_label else 1.0 / z.shape[1]
    soft = (len(z) * truth + chance) / (len(z) + 1)

    def loss(log_temperature: float) -> float:
        scaled = z / np.exp(log_temperature)
        if multi_label:
            return float(-(soft * log_expit(scaled) + (1 - soft) * log_expit(-scaled)).mean())
        return float(-(soft * log_softmax(scaled, axis=1)).sum(1).mean())

    low, high = np.log(TEMPERATURES)
    found = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-4})
    return float(np.exp(found.x))


def reliability_curve(clips: Clips) -> dict[str, list[float]]:
    """Return mean confidence, share right and count of each bin that is not empty."""
    if clips.multi_label:
        confidence, outcome = clips.probabilities.ravel(), clips.truth.ravel()
    else:
        confidence, outcome = clips.probabilities.max(1), clips.right
    index = bin_of(confidence)
    count = np.bincount(index, minlength=NUM_BINS)
    used = count > 0
    sums = [np.bincount(index, values, NUM_BINS)[used] for values in (confidence, outcome)]
    means = [(total / count[used]).tolist() for total in sums]
    return {"confidence": means[0], "accuracy": means[1], "count": count[used].tolist()}
