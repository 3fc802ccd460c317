"""Grad-CAM: where on a feature map the evidence for a target lies.

Each channel counts by the mean of its gradient; the weighted sum is kept where it is positive.
Source: Selvaraju et al. 2017, ICCV, arXiv:1610.02391.
"""

from __future__ import annotations

import torch
from torch import Tensor

from xmoe.explain.targets import Target
from xmoe.explain.trace import Trace


def grad_cam(features: Tensor, gradient: Tensor) -> Tensor:
    """Return the map [B, R, W], not negative, of features and their gradient [B, D, R, W]."""
    weight = gradient.mean((2, 3), keepdim=True)
    return torch.relu((weight * features).sum(1))


def stem_grad_cam(trace: Trace, target: Target) -> Tensor:
    """Return the Grad-CAM [B, R, W] of a target on the stem map."""
    features = trace.stem.features
    return grad_cam(features.detach(), gradient_of(trace, target, features))


def expert_grad_cam(trace: Trace, target: Target, name: str) -> Tensor:
    """Return the Grad-CAM [b, R', W'] of a target on an expert's last map.

    Raises ValueError where no clip chose the expert.
    """
    if name not in trace.expert_maps:
        raise ValueError(f"no clip of this plan chose expert {name}")
    features = trace.expert_maps[name]
    return grad_cam(features.detach(), gradient_of(trace, target, features))


def gradient_of(trace: Trace, target: Target, where: Tensor) -> Tensor:
    """Return the gradient of a target's score at a tensor of the trace; zero where none leads."""
    total = target.score(trace).sum()
    found: tuple[Tensor | None, ...] = torch.autograd.grad(
        total, where, retain_graph=True, allow_unused=True
    )
    gradient = found[0]
    return torch.zeros_like(where) if gradient is None else gradient.detach()
