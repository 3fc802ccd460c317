"""One spectrogram -> everything that its explanation says and draws, as plain arrays.

Three questions are answered, each with a target, a map and a verdict of its own: why this label,
why these experts, why this K. Why these windows needs no map, since the router's saliency is what
ranks them; it is judged by sending the experts random windows instead.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from xmoe.experts.protocol import Inputs
from xmoe.explain.gradcam import expert_grad_cam
from xmoe.explain.grid import grow_cells, place_expert_cells
from xmoe.explain.judge import RANDOM, Verdict, judge_maps
from xmoe.explain.methods import METHODS
from xmoe.explain.occlusion import repeat_rows
from xmoe.explain.scales import Scales, scales_of
from xmoe.explain.subject import Subject
from xmoe.explain.targets import ClassTarget, Target, choose_experts_target, choose_k_target
from xmoe.explain.trace import trace_plan
from xmoe.glance.spans import choose_windows
from xmoe.mixture.moe import MoE
from xmoe.mixture.plan import Plan

Array = npt.NDArray[np.floating]
ALWAYS = ("gradcam", "saliency")
ROUTING_METHOD = "gradient_x_input"
RANDOM_WINDOWS = 8


@dataclass(frozen=True)
class Why:
    """The answer to one question: ``values`` [F, T] by ``method``, its verdict and that of chance.

    ``aim`` is what is explained, ``target`` says it in words.
    """

    aim: Target
    target: str
    method: str
    values: Array
    verdict: Verdict
    random: Verdict


@dataclass(frozen=True)
class Reasons:
    """Why one clip was answered as it was.

    ``spec`` [F, T]; ``maps`` {method: [F, T]} and ``verdicts`` {method or "random": verdict} of
    the label; ``expert_maps`` {name: [F, T]}, Grad-CAM of the experts asked; ``plan`` holds this
    clip alone; ``whys`` has an answer for each question that has one; ``random_windows`` is the
    answer's probability where experts are sent random windows, None where that is no difference;
    ``bands_hz`` the band of each expert.
    """

    spec: Array
    scales: Scales
    plan: Plan
    selector: str
    k_price: float
    classes: tuple[str, ...]
    probabilities: Array
    maps: dict[str, Array]
    verdicts: dict[str, Verdict]
    expert_maps: dict[str, Array]
    whys: dict[str, Why]
    random_windows: float | None
    bands_hz: dict[str, tuple[float, float]]

    @property
    def target(self) -> str:
        """What the maps explain, in words."""
        return self.whys["label"].target

    @property
    def answer_id(self) -> int:
        """The most probable class."""
        return int(self.probabilities.argmax())

    def spans_of(self, name: str) -> list[tuple[float, float]]:
        """Return the spans sent to an expert, on the recording's clock; neighbours are one."""
        return self.scales.merge_spans(self.sent_to(name))

    def sent_to(self, name: str) -> list[tuple[float, float]]:
        """Return the spans that an expert was sent, in seconds from the segment's start."""
        spans = self.plan.spans[0, self.plan.expert_names.index(name)].tolist()
        return [(start, end) for start, end in spans]

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
    probable class. Grad-CAM and the router's saliency are always computed, ``method`` beside them;
    the routing is explained by gradient x input, or by occlusion where that is asked for. Raises
    ValueError for a method that does not exist.
    """
    if method not in METHODS:
        raise ValueError(f"no method {method!r}; there are {', '.join(METHODS)}")
    batch = spec.unsqueeze(0)
    made, inputs = subject.model.prepare(batch, subject.routing)
    plan = plan or made
    probabilities = subject.carry_out(plan, inputs)[0]
    top = int(probabilities.argmax())
    target = target or ClassTarget(top)
    names = dict.fromkeys((*ALWAYS, method))
    maps = {name: METHODS[name](subject.model, batch, plan, target)[0] for name in names}
    verdicts = judge_maps(lambda specs: target.watch(subject, specs), spec, maps)
    label = Why(
        target,
        target.describe(subject.classes),
        method,
        maps[method].cpu().numpy(),
        verdicts[method],
        verdicts[RANDOM],
    )
    return Reasons(
        spec=spec.cpu().numpy(),
        scales=scales_of(subject.frontend, spec.shape[1], start_s),
        plan=plan,
        selector=subject.routing.selector,
        k_price=subject.routing.k_price,
        classes=subject.classes,
        probabilities=probabilities.double().cpu().numpy(),
        maps={name: values.cpu().numpy() for name, values in maps.items()},
        verdicts=verdicts,
        expert_maps=map_experts(subject.model, batch, plan, target),
        whys={"label": label, **explain_routing(subject, spec, plan, method)},
        random_windows=try_random_windows(subject, plan, inputs, top),
        bands_hz={one.name: one.band_hz for one in subject.model.config.experts},
    )


def routing_targets(subject: Subject, plan: Plan) -> dict[str, Target]:
    """Return the targets of the two routing questions that a plan of one clip answers."""
    targets: dict[str, Target | None] = {
        "experts": choose_experts_target(plan),
        "k": choose_k_target(plan, subject.routing),
    }
    return {name: target for name, target in targets.items() if target is not None}


def explain_routing(subject: Subject, spec: Tensor, plan: Plan, method: str) -> dict[str, Why]:
    """Return why these experts and why this K, for one spectrogram [F, T]."""
    whys = {}
    for question, target in routing_targets(subject, plan).items():
        name = "occlusion" if method == "occlusion" else ROUTING_METHOD
        values = METHODS[name](subject.model, spec.unsqueeze(0), plan, target)[0]
        verdicts = judge_maps(
            lambda specs, target=target: target.watch(subject, specs),  # type: ignore[misc]
            spec,
            {name: values},
        )
        words = target.describe(subject.classes)
        whys[question] = Why(
            target, words, name, values.cpu().numpy(), verdicts[name], verdicts[RANDOM]
        )
    return whys


def try_random_windows(subject: Subject, plan: Plan, inputs: Inputs, class_id: int) -> float | None:
    """Return the mean probability of a class where a plan's windows are drawn at random.

    None where no expert is asked or every window is sent.
    """
    keep = plan.spans.shape[2]
    if not bool(plan.k[0]) or keep == plan.num_windows:
        return None
    many, fed = repeat_rows(plan, RANDOM_WINDOWS), repeat_rows(inputs, RANDOM_WINDOWS)
    draws = torch.rand(many.window_scores.shape, generator=torch.Generator().manual_seed(0))
    many = many.with_windows(choose_windows(draws.to(plan.spans.device), keep))
    return float(subject.carry_out(many, fed)[:, class_id].mean())


def map_experts(model: MoE, spec: Tensor, plan: Plan, target: Target) -> dict[str, Array]:
    """Return the Grad-CAM [F, T] of each expert that a plan of one clip [1, F, T] asks."""
    trace = trace_plan(model, spec, plan)
    maps = {}
    for name, rows in trace.expert_rows.items():
        cells, shape = expert_grad_cam(trace, target, name), trace.stem.features.shape[2:]
        width = model.config.window_frames
        placed = place_expert_cells(
            cells, plan, name, rows, shape=(shape[0], shape[1]), width=width
        )
        maps[name] = grow_cells(placed, (spec.shape[1], spec.shape[2]))[0].cpu().numpy()
    return maps
