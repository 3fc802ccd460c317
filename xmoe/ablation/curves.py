"""Decisions and observed answers -> how right each clip is at any mean number of experts.

Every arm has a price per expert that trades accuracy for compute. Sweeping it gives a curve of mean
K; between two prices a mean is met exactly by taking each of both with a share of the clips. So
arms are compared at the same mean K on the same clips, and beside that at the price that validation
chose for it, as it would serve.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from xmoe.ablation.heads import Decisions
from xmoe.ablation.observe import Observed
from xmoe.base.task import Task
from xmoe.glance.router import choose_counts
from xmoe.mixture.combine import blend
from xmoe.mixture.plan import choose_experts

Array = npt.NDArray[np.float64]
PRICES = np.concatenate([-np.geomspace(1.0, 1e-4, 30), [0.0], np.geomspace(1e-4, 1.0, 60)])


@dataclass(frozen=True)
class Curve:
    """One arm on one set of clips.

    ``mean_k`` [prices] falls as the price rises; ``right`` [prices, clips] is how right each clip
    is at each price; ``fixed`` [K_max + 1, clips] with K the same for all; ``loss`` [K_max + 1] the
    mean loss in nats there.
    """

    mean_k: Array
    right: Array
    fixed: Array
    loss: Array

    def at_mean_k(self, target: float) -> Array:
        """Return how right each clip is [clips] at exactly that mean K, or the nearest there is."""
        rising = self.mean_k[::-1]
        target = float(np.clip(target, rising[0], rising[-1]))
        above = int(np.searchsorted(rising, target))
        below = max(0, above - 1)
        width = rising[above] - rising[below]
        share = (target - rising[below]) / width if width > 0 else 1.0
        right = self.right[::-1]
        return np.asarray((1 - share) * right[below] + share * right[above])

    def nearest_price(self, target: float) -> int:
        """Return which price has the mean K nearest to a target; of several the highest."""
        gap = np.abs(self.mean_k - target)
        return int(np.nonzero(gap <= gap.min() + 1e-12)[0][-1])


def clip_right(
    observed: Observed, decisions: Decisions, k: Tensor, *, task: Task
) -> tuple[Array, float]:
    """Return how right each clip is [clips] with K [n] experts per segment, and the mean loss."""
    weights = choose_experts(decisions.gate_logits, k)
    logits = blend(observed.stem, observed.full, weights)
    pooled = observed.segments.pool(logits, len(observed.targets))
    right = task.rightness(pooled, observed.targets).double().numpy()
    return right, float(task.loss(pooled, observed.targets))


def draw_curve(observed: Observed, decisions: Decisions, *, task: Task) -> Curve:
    """Return the curve of one arm on one set of clips."""
    counts = [choose_counts(decisions.promises, float(price)) for price in PRICES]
    rights = [clip_right(observed, decisions, k, task=task)[0] for k in counts]
    last = decisions.promises.shape[1]
    fixed = [
        clip_right(observed, decisions, torch.full((len(observed),), k), task=task)
        for k in range(last)
    ]
    return Curve(
        mean_k=np.array([float(k.double().mean()) for k in counts]),
        right=np.stack(rights),
        fixed=np.stack([right for right, _ in fixed]),
        loss=np.array([loss for _, loss in fixed]),
    )


def mean_curve(curves: list[Curve]) -> Curve:
    """Return the mean of curves of the same arm that differ by what is left to chance."""
    return Curve(
        mean_k=np.mean([curve.mean_k for curve in curves], axis=0),
        right=np.mean([curve.right for curve in curves], axis=0),
        fixed=np.mean([curve.fixed for curve in curves], axis=0),
        loss=np.mean([curve.loss for curve in curves], axis=0),
    )


def best_single(observed: Observed, *, task: Task, allowed: Tensor) -> Array:
    """Return how right each clip [clips] would be if the best one expert, or none, were known.

    No router can do better with at most one expert per clip.
    """
    options = [observed.stem]
    for index in torch.nonzero(allowed).squeeze(1).tolist():
        weights = torch.zeros(len(observed), len(observed.full))
        weights[:, index] = 1.0
        options.append(blend(observed.stem, observed.full, weights))
    rights = [
        task.rightness(observed.segments.pool(logits, len(observed.targets)), observed.targets)
        for logits in options
    ]
    return torch.stack(rights).amax(0).double().numpy()
