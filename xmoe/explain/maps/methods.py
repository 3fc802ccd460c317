"""Every way to explain, by name: (model, spectrogram, plan, target, sound) -> map [B, F, T].

A map is not negative; only its ranking and its shares mean something. A method may ignore the
target: the router's saliency is one map for the whole answer, and is computed without a gradient
and without the router that reads it.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from xmoe.explain.maps.gradcam import gradient_of, stem_amounts, stem_grad_cam
from xmoe.explain.maps.grid import grow_cells
from xmoe.explain.maps.occlusion import occlusion
from xmoe.explain.maps.own_maps import map_hearing
from xmoe.explain.mask_sound import MaskableSound
from xmoe.explain.scales import scales_of
from xmoe.explain.targets import Target
from xmoe.explain.trace import Trace, trace_plan
from xmoe.glance.saliency import activation_map, saliency_map
from xmoe.mixture.moe import MoE
from xmoe.mixture.plan import Plan


class Method(Protocol):
    """A way to explain; ``sound`` is that of the clips, for experts on sound."""

    def __call__(
        self,
        model: MoE,
        spec: Tensor,
        plan: Plan,
        target: Target,
        sound: MaskableSound | None = None,
        /,
    ) -> Tensor:
        """Maps [B, F, T]."""
        ...


@torch.no_grad()
def router_saliency(
    model: MoE, spec: Tensor, plan: Plan, target: Target, sound: MaskableSound | None = None
) -> Tensor:
    """The saliency [B, F, T] that the router itself reads, whatever the target."""
    output = model.stem(spec)
    belief = model.task.belief(output.logits)
    return saliency_map(activation_map(model.stem, output, belief), spec)


def gradcam(
    model: MoE, spec: Tensor, plan: Plan, target: Target, sound: MaskableSound | None = None
) -> Tensor:
    """Grad-CAM of a target on the stem map, grown to [B, F, T].

    Where experts read sound it is what the stem's cells add to the score, and those of each
    expert's own spectrogram.
    """
    shape = (spec.shape[1], spec.shape[2])
    if sound is None:
        return grow_cells(stem_grad_cam(trace_plan(model, spec, plan), target), shape)
    trace = trace_plan(model, spec, plan, sound=sound.sound)
    cells = stem_amounts(trace, target)
    grown = grow_cells(cells, shape)
    scale = cells.sum((1, 2)) / grown.sum((1, 2)).clamp_min(1e-12)
    own = gather_hearing(model, trace, plan, target, sound, spread=True)
    return grown * scale[:, None, None] + own


def gradient_x_input(
    model: MoE, spec: Tensor, plan: Plan, target: Target, sound: MaskableSound | None = None
) -> Tensor:
    """Gradient times the rise over each frequency's mean, where positive, [B, F, T].

    Source: Shrikumar et al. 2017, arXiv:1704.02685, with the mean over time as the reference.
    """
    trace = trace_plan(model, spec, plan, sound=None if sound is None else sound.sound)
    rise = spec - spec.mean(2, keepdim=True)
    values = torch.relu(gradient_of(trace, target, trace.spec) * rise)
    if sound is None:
        return values
    return values + gather_hearing(model, trace, plan, target, sound, spread=False)


def gather_hearing(
    model: MoE, trace: Trace, plan: Plan, target: Target, sound: MaskableSound, *, spread: bool
) -> Tensor:
    """Sum [B, F, T] of the maps of experts on sound, brought to the run's grid."""
    scales = scales_of(sound.frontend, trace.spec.shape[2])
    total = torch.zeros_like(trace.spec)
    found = map_hearing(model, trace, plan, target, spread=spread)
    for row, maps in enumerate(found):
        for own in maps.values():
            total[row] += own.bring_to(scales).to(total.device)
    return total.detach()


METHODS: dict[str, Method] = {
    "gradcam": gradcam,
    "saliency": router_saliency,
    "gradient_x_input": gradient_x_input,
    "occlusion": occlusion,
}
