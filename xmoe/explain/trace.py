"""A plan carried out once more, keeping gradients from the answer back to the spectrogram.

Serving never needs a gradient; explanations do. What the plan decided (experts, weights, windows)
is held fixed, and the stem map is not rounded to uint8, so the logits are those of the plan but for
that rounding. No hooks: stem and experts expose their maps.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from xmoe.experts.cnn import CnnExpert, band_rows, gather_windows
from xmoe.glance.saliency import activation_map, saliency_cells
from xmoe.glance.stem import StemOutput
from xmoe.mixture.combine import blend
from xmoe.mixture.moe import MoE
from xmoe.mixture.plan import Plan


@dataclass(frozen=True)
class Trace:
    """Every tensor on the way to an answer, one graph.

    ``spec`` [B, F, T] is its leaf; ``stem`` what the stem said of it; ``gate_logits`` [B, E], -inf
    where masked; ``promises`` [B, K_max + 1]; ``logits`` [B, C] of the mixture; ``expert_maps``
    {name: [b, D', R', W']} and ``expert_rows`` {name: [b]} of the experts that some clip chose.
    """

    spec: Tensor
    stem: StemOutput
    gate_logits: Tensor
    promises: Tensor
    logits: Tensor
    expert_maps: dict[str, Tensor]
    expert_rows: dict[str, Tensor]


def trace_plan(model: MoE, spec: Tensor, plan: Plan, *, gradient: bool = True) -> Trace:
    """Return the trace of ``plan`` for spectrograms [B, F, T]; the model must be in eval mode.

    Without ``gradient`` the numbers are the same and no graph is kept.
    """
    assert not model.training, "batch norm in training mode would explain another model"
    with torch.set_grad_enabled(gradient):
        leaf = spec.detach().clone().requires_grad_(gradient)
        stem = model.stem(leaf)
        maps, rows, logits = {}, {}, []
        for index, name in enumerate(plan.expert_names):
            answer = torch.zeros_like(stem.logits)
            chosen = torch.nonzero(plan.weights[:, index] > 0).squeeze(1)
            if len(chosen):
                maps[name] = map_expert(model, stem.features, plan, name)
                rows[name] = chosen
                said = expert_of(model, name).read_map(maps[name])
                answer = answer.index_copy(0, chosen, said)
            logits.append(answer)
        gate_logits, count_logits = route(model, leaf, stem)
        return Trace(
            spec=leaf,
            stem=stem,
            gate_logits=gate_logits,
            promises=torch.sigmoid(count_logits),
            logits=blend(stem.logits, torch.stack(logits), plan.weights),
            expert_maps=maps,
            expert_rows=rows,
        )


def map_expert(model: MoE, features: Tensor, plan: Plan, name: str) -> Tensor:
    """Return the last map [b, D', R', W'] of one expert on the windows it was sent."""
    index = plan.expert_names.index(name)
    chosen = torch.nonzero(plan.weights[:, index] > 0).squeeze(1)
    first, last = band_rows(name, features.shape[2])
    band = features[chosen, :, first:last]
    if plan.spans.shape[2] < plan.num_windows:
        band = gather_windows(band, plan.windows[chosen, index], model.config.window_frames)
    return expert_of(model, name).map_features(band)


def expert_of(model: MoE, name: str) -> CnnExpert:
    """Return one expert of a model."""
    expert = model.experts[name]
    assert isinstance(expert, CnnExpert)
    return expert


def route(model: MoE, spec: Tensor, stem: StemOutput) -> tuple[Tensor, Tensor]:
    """Return gate logits [B, E] and promise logits [B, K_max + 1] with gradients.

    ``MoE.glance`` cuts them off on purpose: in training the router must not bend the stem.
    """
    belief = model.task.belief(stem.logits)
    cells = saliency_cells(activation_map(model.stem, stem, belief), spec)
    evidence = model.router.measure_evidence(
        features=stem.features, cells=cells, belief=belief, spec=spec
    )
    routed: tuple[Tensor, Tensor] = model.router(evidence)
    return routed
