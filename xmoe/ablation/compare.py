"""Cells of all seeds -> accuracy at equal mean compute, and paired differences with intervals.

The seeds of a set answer the same test clips. A clip's figure is its mean over the seeds, and the
bootstrap resamples clips, or groups of clips where the manifest names ten or more. An interval thus
holds for other clips of the same kind; what another seed would give is shown by the figures of each
seed beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from xmoe.ablation.arms import ARMS, REFERENCE
from xmoe.ablation.cells import WINDOW_FRACTIONS, WINDOW_SELECTORS
from xmoe.ablation.curves import Array, Curve
from xmoe.metrics.bootstrap import make_resampler

TARGETS = (0.5, 1.0, 2.0)
NUM_BOOTSTRAP = 2000
GRID = tuple(round(0.1 * i, 1) for i in range(31))


@dataclass(frozen=True)
class Estimate:
    """A mean in [0, 1] or a difference of two, its 95 % interval, and that of each seed."""

    value: float
    low: float
    high: float
    by_seed: tuple[float, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {"value": self.value, "ci": [self.low, self.high], "by_seed": list(self.by_seed)}


class Resampler:
    """The same draws of clips for every figure of one set of clips."""

    def __init__(self, num_clips: int, groups: Sequence[str] | None, seed: int = 0) -> None:
        draw, self.units = make_resampler(num_clips, groups, seed)
        weights = draw(NUM_BOOTSTRAP)
        self._weights = weights / weights.sum(1, keepdims=True)

    def estimate(self, values: Array) -> Estimate:
        """Return the mean of values [seeds, clips] with its interval."""
        means = self._weights @ values.mean(0)
        low, high = np.quantile(means, (0.025, 0.975))
        by_seed = tuple(float(mean) for mean in values.mean(1))
        return Estimate(float(values.mean()), float(low), float(high), by_seed)


Curves = Mapping[str, Mapping[str, Sequence[Curve]]]


def compare_arms(curves: Curves, resamplers: Mapping[str, Resampler]) -> list[dict[str, Any]]:
    """Return one row per arm, condition and target.

    ``curves[arm][condition]`` has one curve per seed. A row holds ``accuracy`` at exactly that mean
    K and its ``difference`` from the reference arm. ``target`` is a mean K, or ``K=k`` where every
    clip asks k experts.
    """
    rows = []
    for name, by_condition in curves.items():
        for condition, own in by_condition.items():
            reference = curves[REFERENCE][condition]
            resampler = resamplers[condition]
            for target, pick in _targets(own[0]):
                values = np.stack([pick(curve) for curve in own])
                base = np.stack([pick(curve) for curve in reference])
                rows.append(
                    {
                        "arm": name,
                        "condition": condition,
                        "target": target,
                        "accuracy": resampler.estimate(values).as_dict(),
                        "difference": resampler.estimate(values - base).as_dict(),
                    }
                )
    return rows


def _targets(curve: Curve) -> list[tuple[str, Any]]:
    """Return what arms are compared at: a name, and the function that reads it from a curve."""
    last = len(curve.fixed) - 1
    means = [
        (f"mean K {target:g}", lambda c, t=target: c.at_mean_k(t))
        for target in TARGETS
        if target < last
    ]
    area = [("any K", mean_over_k)]
    fixed = [(f"K={k}", lambda c, k=k: c.fixed[k]) for k in range(last + 1)]
    return [*means, *area, *fixed]


def mean_over_k(curve: Curve) -> Array:
    """Return how right each clip is [clips], averaged over mean K from 0 to K_max."""
    last = len(curve.fixed) - 1
    return np.asarray(np.mean([curve.at_mean_k(k) for k in GRID if 0 < k <= last], axis=0))


def deploy_arms(curves: Curves, resampler: Resampler) -> list[dict[str, Any]]:
    """Return one row per arm and target at the price that validation chose for it.

    The mean K that test clips then ask is the arm's own, and is given beside.
    """
    rows = []
    for name, by_condition in curves.items():
        pairs = list(zip(by_condition["val"], by_condition["test"], strict=True))
        last = len(pairs[0][0].fixed) - 1
        for target in [t for t in TARGETS if t < last]:
            prices = [val.nearest_price(target) for val, _ in pairs]
            right = [test.right[p] for p, (_, test) in zip(prices, pairs, strict=True)]
            asked = [float(test.mean_k[p]) for p, (_, test) in zip(prices, pairs, strict=True)]
            rows.append(
                {
                    "arm": name,
                    "target": f"mean K {target:g}",
                    "mean_k": float(np.mean(asked)),
                    "mean_k_by_seed": asked,
                    "accuracy": resampler.estimate(np.stack(right)).as_dict(),
                }
            )
    return rows


def trace_curves(curves: Curves, resampler: Resampler) -> list[dict[str, Any]]:
    """Return accuracy on test at each mean K of a grid, by arm, with intervals."""
    rows = []
    for name, by_condition in curves.items():
        own = by_condition["test"]
        last = len(own[0].fixed) - 1
        for k in [k for k in GRID if k <= last]:
            values = np.stack([curve.at_mean_k(k) for curve in own])
            rows.append({"arm": name, "mean_k": k, **resampler.estimate(values).as_dict()})
    return rows


def compare_windows(right: Array, whole: Array, resampler: Resampler) -> list[dict[str, Any]]:
    """Return one row per selector and share of windows.

    ``right`` [seeds, selectors, fractions, clips], ``whole`` [seeds, clips]. ``difference`` is from
    saliency at the same share, ``lost`` from the whole map.
    """
    rows = []
    base = right[:, WINDOW_SELECTORS.index("saliency")]
    for s, selector in enumerate(WINDOW_SELECTORS):
        for f, fraction in enumerate(WINDOW_FRACTIONS):
            values = right[:, s, f]
            rows.append(
                {
                    "selector": selector,
                    "fraction": fraction,
                    "accuracy": resampler.estimate(values).as_dict(),
                    "difference": resampler.estimate(values - base[:, f]).as_dict(),
                    "lost": resampler.estimate(values - whole).as_dict(),
                }
            )
    return rows


def describe_arms(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return in words and by evidence what each arm is."""
    return {
        name: {
            "says": ARMS[name].says,
            "gate": ARMS[name].gate,
            "count": ARMS[name].count,
            "shuffled": ARMS[name].shuffled,
            "choice": ARMS[name].choice,
        }
        for name in names
    }
