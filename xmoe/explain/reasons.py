"""One spectrogram -> everything that its explanation says and draws, as plain arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from xmoe.config import RoutingConfig
from xmoe.explain.faithfulness import measure_faithfulness
from xmoe.explain.gradcam import expert_grad_cam
from xmoe.explain.grid import grow_cells, place_expert_cells
from xmoe.explain.methods import METHODS
from xmoe.explain.scales import Scales, scales_of
from xmoe.explain.targets import ClassTarget, Target
from xmoe.explain.trace import trace_plan
from xmoe.frontend.base import Frontend
from xmoe.model.combine import combine
from xmoe.model.moe import MoE
from xmoe.model.plan import Plan

Array = npt.NDArray[np.floating]
ALWAYS = ("gradcam", "saliency")
RANDOM_MAPS = 4


@dataclass(frozen=True)
class Subject:
    """The classifier that is explained: model in eval mode, its front end, routing and classes."""

    model: MoE
    frontend: Frontend
    routing: RoutingConfig
    classes: tuple[str, ...]

    @torch.no_grad()
    def probabilities(self, specs: Tensor, plan: Plan | None = None) -> Tensor:
        """Return calibrated probabilities [B, C] of spectrograms [B, F, T], by ``plan`` if any."""
        plan = plan or self.model.plan(specs, self.routing)
        combined = combine(plan, self.model.call_experts(plan))
        scale = torch.tensor(self.routing.temperatures or (1.0,), device=specs.device)
        heard = (combined.weights > 0).sum(1).clamp_max(len(scale) - 1)
        logits = combined.logits / scale[heard].unsqueeze(1)
        multi_label = self.model.config.task == "multi_label"
        return torch.sigmoid(logits) if multi_label else torch.softmax(logits, 1)


@dataclass(frozen=True)
class Reasons:
    """Why one clip was answered as it was.

    ``spec`` [F, T]; ``maps`` {method: [F, T]}; ``expert_maps`` {name: [F, T]}, Grad-CAM of the
    experts asked; ``plan`` holds this clip alone; ``faithfulness`` {method or "random":
    (deletion, insertion)}.
    """

    spec: Array
    scales: Scales
    plan: Plan
    classes: tuple[str, ...]
    probabilities: Array
    target: str
    maps: dict[str, Array]
    expert_maps: dict[str, Array]
    faithfulness: dict[str, tuple[float, float]]

    @property
    def answer_id(self) -> int:
        """The most probable class."""
        return int(self.probabilities.argmax())

    def chosen(self) -> list[tuple[str, float, list[int]]]:
        """Return (name, weight, windows in the order of time) of the experts asked, best first."""
        weights = self.plan.weights[0].tolist()
        order = sorted((i for i, w in enumerate(weights) if w > 0), key=lambda i: -weights[i])
        windows = self.plan.windows[0]
        return [(self.plan.expert_names[i], weights[i], windows[i].tolist()) for i in order]


def find_reasons(
    subject: Subject,
    spec: Tensor,
    *,
    plan: Plan | None = None,
    target: Target | None = None,
    method: str = "gradcam",
    start_s: float = 0.0,
) -> Reasons:
    """Return the reasons for the answer to one spectrogram [F, T] that begins at ``start_s``.

    ``plan`` is that of this clip alone, made where it is not given; ``target`` defaults to the most
    probable class. Grad-CAM and the router's saliency are always computed, ``method`` beside them.
    Raises ValueError for a method that does not exist.
    """
    if method not in METHODS:
        raise ValueError(f"no method {method!r}; there are {', '.join(METHODS)}")
    batch = spec.unsqueeze(0)
    plan = plan or subject.model.plan(batch, subject.routing)
    probabilities = subject.probabilities(batch, plan)[0]
    top = int(probabilities.argmax())
    target = target or ClassTarget(top)
    names = dict.fromkeys((*ALWAYS, method))
    maps = {name: METHODS[name](subject.model, batch, plan, target)[0] for name in names}
    return Reasons(
        spec=spec.cpu().numpy(),
        scales=scales_of(subject.frontend, spec.shape[1], start_s),
        plan=plan,
        classes=subject.classes,
        probabilities=probabilities.double().cpu().numpy(),
        target=target.describe(subject.classes),
        maps={name: values.cpu().numpy() for name, values in maps.items()},
        expert_maps=map_experts(subject.model, batch, plan, target),
        faithfulness=judge_maps(subject, spec, maps, top),
    )


def map_experts(model: MoE, spec: Tensor, plan: Plan, target: Target) -> dict[str, Array]:
    """Return the Grad-CAM [F, T] of each expert that a plan of one clip [1, F, T] asks."""
    trace = trace_plan(model, spec, plan)
    maps = {}
    for name, rows in trace.expert_rows.items():
        placed = place_expert_cells(expert_grad_cam(trace, target, name), plan, name, rows)
        maps[name] = grow_cells(placed, (spec.shape[1], spec.shape[2]))[0].cpu().numpy()
    return maps


def judge_maps(
    subject: Subject, spec: Tensor, maps: dict[str, Tensor], class_id: int
) -> dict[str, tuple[float, float]]:
    """Return (deletion, insertion) of each map [F, T] and, as "random", the mean of four random."""
    generator = torch.Generator().manual_seed(0)
    random = torch.rand(RANDOM_MAPS, *spec.shape, generator=generator).to(spec.device)
    stacked = torch.cat([torch.stack(list(maps.values())), random])
    found = measure_faithfulness(
        subject.probabilities,
        spec.expand(len(stacked), -1, -1),
        stacked,
        torch.full((len(stacked),), class_id, device=spec.device),
        generator=generator,
    )
    pairs = torch.stack([found.deletion, found.insertion], 1)
    rows = [*pairs[: len(maps)], pairs[len(maps) :].mean(0)]
    return {
        name: (float(row[0]), float(row[1]))
        for name, row in zip([*maps, "random"], rows, strict=True)
    }
