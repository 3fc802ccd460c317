"""Does a map depend on what the model has learned? Weights drawn anew must destroy it.

Three likenesses of maps, each a rank correlation over the cells of one clip:

- ``raw``: the trained model's map and that of a model of fresh weights;
- ``unrelated``: the maps of two models of fresh weights, which share the clip and nothing else;
- ``learned``: as ``raw``, once the order that the clip alone gives (its level, its contrast, its
  rise over each frequency's mean) has been taken out of both maps. This is the part that the
  weights are answerable for, and the check is that it goes.

The plain check of Adebayo et al. looks at ``raw`` alone. A map with a factor that needs no weights
cannot pass that whatever the model has learned, so the factor is named and taken out; ``raw`` is
reported beside it, since it is what a person who looks at the picture sees.

Source: Adebayo et al. 2018, NeurIPS, arXiv:1810.03292.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from xmoe.explain.methods import METHODS
from xmoe.explain.ranks import rank_correlation
from xmoe.explain.subject import Subject
from xmoe.explain.targets import Target
from xmoe.model.moe import MoE
from xmoe.model.saliency import contrast

DESTROYED = 0.25


@dataclass(frozen=True)
class Likeness:
    """Rank correlations of one method on one clip, means over fresh models."""

    raw: float
    unrelated: float
    learned: float

    @property
    def passes(self) -> bool:
        """Whether what the weights are answerable for is gone."""
        return abs(self.learned) < DESTROYED


def draw_weights(model: MoE, seed: int) -> MoE:
    """Return a model of the same shape whose weights and statistics are as before training."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = MoE(model.config, num_bins=model.stem.num_rows * 4)
    return fresh.to(next(model.parameters()).device).eval()


def weightless_maps(spec: Tensor) -> list[Tensor]:
    """Return the maps [F, T] that a spectrogram [1, F, T] gives without any weights."""
    return [spec[0], contrast(spec)[0], torch.relu(spec - spec.mean(2, keepdim=True))[0]]


def compare_maps(
    subject: Subject, fresh: Sequence[MoE], spec: Tensor, target: Target, method: str
) -> Likeness:
    """Return how like a method's map of one clip [1, F, T] is to those of two or more fresh models.

    All are asked about the same target.
    """
    draw = METHODS[method]

    def map_of(model: MoE) -> Tensor:
        return draw(model, spec, model.plan(spec, subject.routing), target)[0]

    trained, others = map_of(subject.model), [map_of(model) for model in fresh]
    given = weightless_maps(spec)
    pairs = [(a, b) for i, a in enumerate(others) for b in others[:i]]
    return Likeness(
        raw=_mean([rank_correlation(trained, other) for other in others]),
        unrelated=_mean([rank_correlation(a, b) for a, b in pairs]),
        learned=_mean([rank_correlation(trained, other, given) for other in others]),
    )


def _mean(values: list[float]) -> float:
    return float(np.mean(values))
