"""A plan carried out once more, keeping gradients from the answer back to the spectrograms.

Serving never needs a gradient; explanations do. What the plan decided (experts, weights, windows)
is held fixed, and the stem map is not rounded to uint8, so the logits are those of the plan but for
that rounding. No hooks: stem and experts expose their maps. An expert on sound has a spectrogram of
its own, and gradients end there: those of the run's spectrogram come from the stem and the experts
on its map alone. A pretrained network has none: only occlusion can tell what of its spans spoke for
an answer.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from xmoe.audio.sound import Sound
from xmoe.experts.backbone import BackboneExpert
from xmoe.experts.cnn import CnnExpert, band_rows, gather_windows
from xmoe.experts.protocol import HearingExpert, Inputs, Payload
from xmoe.experts.registry import pack_payload
from xmoe.glance.saliency import activation_map, saliency_cells
from xmoe.glance.stem import StemOutput
from xmoe.mixture.combine import blend
from xmoe.mixture.moe import MoE
from xmoe.mixture.plan import Plan


@dataclass(frozen=True)
class Trace:
    """Every tensor on the way to an answer, one graph.

    ``spec`` [B, F, T] is its leaf; ``stem`` the stem's output; ``gate_logits`` [B, E], -inf where
    masked; ``promises`` [B, K_max + 1]; ``logits`` [B, C] of the mixture; ``expert_maps`` {name:
    [b, D', R', W']} of the experts on the stem map that some clip chose, ``expert_specs`` {name: b
    lists of [F, T_i]} the spectrograms of experts on sound, piece by piece, leaves too, and
    ``expert_rows`` {name: [b]} their clips.
    """

    spec: Tensor
    stem: StemOutput
    gate_logits: Tensor
    promises: Tensor
    logits: Tensor
    expert_maps: dict[str, Tensor]
    expert_specs: dict[str, list[list[Tensor]]]
    expert_rows: dict[str, Tensor]


def trace_plan(
    model: MoE, spec: Tensor, plan: Plan, *, sound: Sound | None = None, gradient: bool = True
) -> Trace:
    """The trace of ``plan`` for spectrograms [B, F, T]; the model must be in eval mode.

    ``sound`` is that of the same segments. Without ``gradient`` the numbers are the same and no
    graph is kept.
    """
    assert not model.training, "batch norm in training mode would explain another model"
    with torch.set_grad_enabled(gradient):
        leaf = spec.detach().clone().requires_grad_(gradient)
        stem = model.stem(leaf)
        maps, seen, rows, logits = {}, {}, {}, []
        for name in plan.expert_names:
            answer = torch.zeros_like(stem.logits)
            chosen = rows_asking(plan, name)
            if len(chosen):
                rows[name], expert = chosen, model.experts[name]
                if isinstance(expert, HearingExpert):
                    seen[name] = see_expert(model, sound, plan, name, gradient=gradient)
                    said = torch.stack([expert.answer_pieces(pieces) for pieces in seen[name]])
                elif isinstance(expert, BackboneExpert):
                    said = expert.answer(pack_for(model, sound, plan, name)).detach()
                else:
                    maps[name] = map_expert(model, stem.features, plan, name)
                    said = expert_of(model, name).read_map(maps[name])
                answer = answer.index_copy(0, chosen, said)
            logits.append(answer)
        gate_logits, count_logits = route(model, leaf, stem)
        return Trace(
            spec=leaf,
            stem=stem,
            gate_logits=gate_logits,
            promises=torch.sigmoid(count_logits),
            logits=blend(stem.logits, torch.stack(logits), plan.weights, plan.stem_share(plan.k)),
            expert_maps=maps,
            expert_specs=seen,
            expert_rows=rows,
        )


def rows_asking(plan: Plan, name: str) -> Tensor:
    return torch.nonzero(plan.weights[:, plan.expert_names.index(name)] > 0).squeeze(1)


def map_expert(model: MoE, features: Tensor, plan: Plan, name: str) -> Tensor:
    """The last map [b, D', R', W'] of one expert on the windows it was sent."""
    index, chosen = plan.expert_names.index(name), rows_asking(plan, name)
    first, last = band_rows(name, features.shape[2])
    band = features[chosen, :, first:last]
    if plan.spans.shape[2] < plan.num_windows:
        band = gather_windows(band, plan.windows[chosen, index], model.config.window_frames)
    return expert_of(model, name).map_features(band)


def see_expert(
    model: MoE, sound: Sound | None, plan: Plan, name: str, *, gradient: bool = True
) -> list[list[Tensor]]:
    """For each clip that asks an expert the spectrograms [F, T_i] of what it was sent."""
    expert, payload = model.experts[name], pack_for(model, sound, plan, name)
    assert isinstance(expert, HearingExpert)
    return [[piece.requires_grad_(gradient) for piece in row] for row in expert.see(payload)]


def pack_for(model: MoE, sound: Sound | None, plan: Plan, name: str) -> Payload:
    index, chosen = plan.expert_names.index(name), rows_asking(plan, name)
    nothing = torch.empty(0, dtype=torch.uint8)
    inputs = Inputs(nothing, nothing, column_s=0.0, window_columns=1, sound=sound)
    return pack_payload(model.config.spec_of(name), inputs, chosen, plan.spans[chosen, index])


def expert_of(model: MoE, name: str) -> CnnExpert:
    expert = model.experts[name]
    assert isinstance(expert, CnnExpert)
    return expert


def route(model: MoE, spec: Tensor, stem: StemOutput) -> tuple[Tensor, Tensor]:
    """Gate logits [B, E] and promise logits [B, K_max + 1] with gradients.

    ``MoE.glance`` cuts them off on purpose: in training the router must not bend the stem.
    """
    belief = model.task.belief(stem.logits)
    cells = saliency_cells(activation_map(model.stem, stem, belief), spec)
    evidence = model.router.measure_evidence(
        features=stem.features, cells=cells, belief=belief, spec=spec
    )
    routed: tuple[Tensor, Tensor] = model.router(evidence)
    return routed
