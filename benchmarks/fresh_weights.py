"""Does a map depend on what the model has learned? Fresh random weights must destroy it.

Likenesses of maps over the cells of one clip:

- ``raw``: rank correlation of the trained model's map and that of a model of fresh weights; the
  check is that it goes;
- ``unrelated``: the same of two models of fresh weights, which share the clip and nothing else;
- ``values``: as ``raw``, but of the values, to which the few strong cells matter most.

Source: Adebayo et al. 2018, NeurIPS, arXiv:1810.03292.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from xmoe.experts.backbone import BackboneExpert
from xmoe.experts.kernels import KernelsExpert
from xmoe.explain.maps.methods import METHODS
from xmoe.explain.mask_sound import MaskableSound
from xmoe.explain.subject import Subject
from xmoe.explain.survey import rank_correlation
from xmoe.explain.targets import Target
from xmoe.mixture.moe import MoE
from xmoe.mixture.promise_router import PromiseRouter

DESTROYED = 0.25  # rank correlation below which a map counts as destroyed


@dataclass(frozen=True)
class Likeness:
    """Likenesses of one method's maps on one clip, means over fresh models."""

    raw: float
    unrelated: float
    values: float

    @property
    def passes(self) -> bool:
        return abs(self.raw) < DESTROYED


def draw_weights(model: MoE, seed: int) -> MoE:
    """A model of the same shape with the weights and statistics of one before training.

    Random kernels were never learned and stay; the heads on them, which are zero before they are
    fitted, are drawn with the deviation of the fitted ones. The order of experts stays too.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = MoE(model.config, model.spectro)
        for name, expert in fresh.experts.items():
            fitted = model.experts[name]
            heads = KernelsExpert | BackboneExpert
            if isinstance(expert, heads) and isinstance(fitted, heads):
                expert.head.load_state_dict(fitted.head.state_dict())
                expert.head.weight.normal_(std=float(fitted.head.weight.std()))
                expert.head.bias.zero_()
    if isinstance(model.router, PromiseRouter):
        fresh.router.load_state_dict(model.router.state_dict())
    return fresh.to(next(model.parameters()).device).eval()


def compare_maps(
    subject: Subject,
    fresh: Sequence[MoE],
    spec: Tensor,
    target: Target,
    method: str,
    sound: MaskableSound | None = None,
) -> Likeness:
    """Compare a method's map of one clip [1, F, T] with those of two or more fresh models.

    All explain the same target, with the clip's sound for experts on sound.
    """

    def map_of(model: MoE) -> Tensor:
        own = replace(subject, model=model)
        own_sound = None if sound is None else sound.sound
        plan, _ = own.answer(*model.prepare(spec, subject.routing, sound=own_sound))
        return METHODS[method](model, spec, plan, target, sound)[0]

    trained, others = map_of(subject.model), [map_of(model) for model in fresh]
    pairs = [(a, b) for i, a in enumerate(others) for b in others[:i]]
    return Likeness(
        raw=_mean([rank_correlation(trained, other) for other in others]),
        unrelated=_mean([rank_correlation(a, b) for a, b in pairs]),
        values=_mean([correlation(trained, other) for other in others]),
    )


def correlation(one: Tensor, other: Tensor) -> float:
    """Pearson's correlation of the cells of two maps, -1..1; 0 where one is flat."""
    cells = torch.stack([one.flatten(), other.flatten()]).double()
    flat = bool((cells.amin(1) == cells.amax(1)).any())
    return 0.0 if flat else float(torch.corrcoef(cells)[0, 1])


def _mean(values: list[float]) -> float:
    return float(np.mean(values))
