"""Every way to explain, by name: (model, spectrogram, plan, target) -> map [B, F, T].

A map is not negative; only its ranking and its shares mean something. A method may ignore the
target: the router's saliency is one map for the whole answer, and is computed without a gradient
and without the router that reads it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from xmoe.explain.gradcam import gradient_of, stem_grad_cam
from xmoe.explain.grid import grow_cells
from xmoe.explain.occlusion import occlusion
from xmoe.explain.targets import Target
from xmoe.explain.trace import trace_plan
from xmoe.glance.saliency import activation_map, saliency_map
from xmoe.mixture.moe import MoE
from xmoe.mixture.plan import Plan

Method = Callable[[MoE, Tensor, Plan, Target], Tensor]


@torch.no_grad()
def router_saliency(model: MoE, spec: Tensor, plan: Plan, target: Target) -> Tensor:
    """Return the saliency [B, F, T] that the router itself reads; the target does not enter."""
    output = model.stem(spec)
    belief = model.task.belief(output.logits)
    return saliency_map(activation_map(model.stem, output, belief), spec)


def gradcam(model: MoE, spec: Tensor, plan: Plan, target: Target) -> Tensor:
    """Return the Grad-CAM of a target on the stem map, grown to [B, F, T]."""
    cells = stem_grad_cam(trace_plan(model, spec, plan), target)
    return grow_cells(cells, (spec.shape[1], spec.shape[2]))


def gradient_x_input(model: MoE, spec: Tensor, plan: Plan, target: Target) -> Tensor:
    """Return gradient times what rises over each frequency's mean, where positive, [B, F, T].

    Source: Shrikumar et al. 2017, arXiv:1704.02685, with the mean over time as the reference.
    """
    trace = trace_plan(model, spec, plan)
    rise = spec - spec.mean(2, keepdim=True)
    return torch.relu(gradient_of(trace, target, trace.spec) * rise)


METHODS: dict[str, Method] = {
    "gradcam": gradcam,
    "saliency": router_saliency,
    "gradient_x_input": gradient_x_input,
    "occlusion": occlusion,
}
