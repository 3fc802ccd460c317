"""Grad-CAM: where on a feature map the evidence for a target lies.

Each channel counts by the mean of its gradient; the weighted sum is kept where it is positive.
Source: Selvaraju et al. 2017, ICCV, arXiv:1610.02391.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from xmoe.explain.targets import Target
from xmoe.explain.trace import Trace


def grad_cam(features: Tensor, gradient: Tensor) -> Tensor:
    """The map [B, R, W] >= 0 of features and their gradient [B, D, R, W]."""
    weight = gradient.mean((2, 3), keepdim=True)
    return torch.relu((weight * features).sum(1))


def stem_grad_cam(trace: Trace, target: Target) -> Tensor:
    """Grad-CAM [B, R, W] of a target on the stem map."""
    features = trace.stem.features
    return grad_cam(features.detach(), gradient_of(trace, target, features))


def stem_amounts(trace: Trace, target: Target) -> Tensor:
    """What each cell of the stem map adds to a target's score where positive, [B, R, W].

    Gradient times the rise over the mean in time, which is exact for a linear head.
    """
    features = trace.stem.features.detach()
    rise = features - features.mean(3, keepdim=True)
    return torch.relu((gradient_of(trace, target, trace.stem.features) * rise).sum(1))


def expert_grad_cam(trace: Trace, target: Target, name: str) -> Tensor:
    """Grad-CAM [b, R', W'] of a target on an expert's last map.

    Raises ValueError where no clip chose the expert.
    """
    if name not in trace.expert_maps:
        raise ValueError(f"no clip of this plan chose expert {name}")
    features = trace.expert_maps[name]
    return grad_cam(features.detach(), gradient_of(trace, target, features))


def gradient_of(trace: Trace, target: Target, where: Tensor) -> Tensor:
    """Gradient of a target's score at a tensor of the trace; zero where none reaches it."""
    return gradients_of(trace, target, [where])[0]


def gradients_of(trace: Trace, target: Target, where: Sequence[Tensor]) -> list[Tensor]:
    """Gradients of a target's score at several tensors of the trace."""
    if not where:
        return []
    total = target.score(trace).sum()
    found: tuple[Tensor | None, ...] = torch.autograd.grad(
        total, list(where), retain_graph=True, allow_unused=True
    )
    return [
        torch.zeros_like(leaf) if gradient is None else gradient.detach()
        for leaf, gradient in zip(where, found, strict=True)
    ]
