"""One spectrogram -> everything that its explanation says and draws, as plain arrays.

Three questions are answered, each with a target, a map and a verdict of its own: why this label,
why these experts, why this K. Why these windows needs no map, since the router's saliency ranks
them; it is judged by sending the experts random windows instead. Experts in a fixed order are not
chosen, so there is no choice to map: ``asked`` holds what each of them contributes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from xmoe.audio.sound import Sound
from xmoe.base.config import BackboneSpec, RoutingConfig
from xmoe.experts.protocol import Inputs
from xmoe.experts.sound import merge_spans
from xmoe.explain.asked import Asked, ask_each, look_again
from xmoe.explain.judge import RANDOM, Verdict, judge_maps
from xmoe.explain.maps.gradcam import expert_grad_cam
from xmoe.explain.maps.grid import grow_cells, place_expert_cells
from xmoe.explain.maps.methods import METHODS
from xmoe.explain.maps.occlusion import repeat_rows
from xmoe.explain.maps.own_maps import OwnMap, map_hearing, show_sent
from xmoe.explain.mask_sound import MaskableSound
from xmoe.explain.scales import FROM_START, Scales, scales_of
from xmoe.explain.subject import Subject
from xmoe.explain.targets import ClassTarget, Target, choose_experts_target, choose_k_target
from xmoe.explain.trace import Trace, trace_plan
from xmoe.glance.router import count_costs
from xmoe.glance.spans import choose_windows
from xmoe.mixture.calls import call_experts
from xmoe.mixture.moe import MoE
from xmoe.mixture.plan import Plan
from xmoe.mixture.promise_router import PromiseRouter

Array = npt.NDArray[np.floating]
ALWAYS = ("gradcam", "saliency")  # computed beside the method asked for
ROUTING_METHOD = "gradient_x_input"
RANDOM_WINDOWS = 8


@dataclass(frozen=True)
class Why:
    """The answer to one question: ``values`` [F, T] by ``method``, its verdict and that of chance.

    ``aim`` is what is explained, ``target`` the same in words.
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

    ``spec`` [F, T]; ``maps`` {method: [F, T]} and ``verdicts`` {method or "random": verdict} of the
    label; ``expert_maps`` {name: [F, T]} of the experts asked, ``own_maps`` of those on sound, each
    on a spectrogram of its own (a pretrained network on the run's, its map empty); ``plan`` holds
    this clip alone, as it was in the end; ``whys`` has an answer for each question that has one;
    ``random_windows`` is the answer's probability where experts are sent random windows, None where
    that makes no difference; ``bands_hz`` the band of each expert. Where experts stand in a fixed
    order, ``asked`` holds them, stem first; ``first_k`` were asked at first, and ``again`` [K_max +
    1] was promised once they had answered.
    """

    spec: Array
    scales: Scales
    plan: Plan
    routing: RoutingConfig
    classes: tuple[str, ...]
    probabilities: Array
    maps: dict[str, Array]
    verdicts: dict[str, Verdict]
    expert_maps: dict[str, Array]
    own_maps: dict[str, OwnMap]
    whys: dict[str, Why]
    random_windows: float | None
    bands_hz: dict[str, tuple[float, float]]
    first_k: int
    asked: tuple[Asked, ...] = ()
    again: Array | None = None

    @property
    def costs(self) -> list[float]:
        """What 0, 1, ... experts cost: milliseconds where they are known, else how many."""
        depths = self.plan.promises.shape[1]
        return count_costs(depths, self.routing.costs_ms, torch.device("cpu")).tolist()

    @property
    def target(self) -> str:
        return self.whys["label"].target

    @property
    def answer_id(self) -> int:
        return int(self.probabilities.argmax())

    def spans_of(self, name: str) -> list[tuple[float, float]]:
        """Spans sent to an expert, on the recording's clock; neighbours are joined."""
        return self.scales.merge_spans(self.sent_to(name))

    def sent_to(self, name: str) -> list[tuple[float, float]]:
        """Spans sent to an expert, in seconds from the segment's start."""
        spans = self.plan.spans[0, self.plan.expert_names.index(name)].tolist()
        return list(dict.fromkeys((start, end) for start, end in spans))

    def chosen(self) -> list[tuple[str, float, list[int]]]:
        """(name, weight, windows in the order of time) of the experts asked, best first."""
        names, windows = self.plan.expert_names, self.plan.windows[0].tolist()
        pairs = enumerate(self.plan.weights[0].tolist())
        order = sorted((pair for pair in pairs if pair[1] > 0), key=lambda pair: -pair[1])
        # An expert that is sent fewer windows than another has its last one repeated.
        return [(names[i], weight, list(dict.fromkeys(windows[i]))) for i, weight in order]


def find_reasons(
    subject: Subject,
    spec: Tensor,
    *,
    sound: Sound | None = None,
    plan: Plan | None = None,
    method: str = "gradcam",
    span_s: tuple[float, float] = FROM_START,
) -> Reasons:
    """The reasons for the answer to one spectrogram [F, T], which is ``span_s`` of a recording.

    ``sound`` is that of the same segment, for experts on sound. ``plan`` is that of this clip
    alone, made as for an answer by default. Grad-CAM and the router's saliency are always computed,
    ``method`` beside them; the routing is explained by gradient x input, or by occlusion where that
    is asked for. Raises ValueError for an unknown method.
    """
    if method not in METHODS:
        raise ValueError(f"no method {method!r}; there are {', '.join(METHODS)}")
    batch, model = spec.unsqueeze(0), subject.model
    masked = None if sound is None else MaskableSound.of(subject.frontend, sound, spec.shape[1])
    first, inputs = model.prepare(batch, subject.routing, sound=sound)
    if plan is None:
        plan, answered = subject.answer(first, inputs)
    else:
        first, answered = plan, subject.carry_out(plan, inputs)
    top = int(answered[0].argmax())
    target = ClassTarget(top)
    label, maps, verdicts = explain_label(subject, spec, masked, plan, target, method)
    trace = trace_plan(model, batch, plan, sound=sound)
    own = map_hearing(model, trace, plan, target, spread=True, span_s=span_s)[0]
    scales = scales_of(subject.frontend, spec.shape[1], span_s)
    own |= show_networks(model, plan, spec, scales)
    return Reasons(
        spec=spec.cpu().numpy(),
        scales=scales,
        plan=plan,
        routing=subject.routing,
        classes=subject.classes,
        probabilities=answered[0].double().cpu().numpy(),
        maps=maps,
        verdicts=verdicts,
        expert_maps=map_experts(model, trace, plan, target)
        | {name: one.bring_to(scales).numpy() for name, one in own.items()},
        own_maps=own,
        whys={"label": label} | explain_routing(subject, spec, first, method),
        random_windows=try_random_windows(subject, plan, inputs, top),
        bands_hz={one.name: one.band_hz for one in model.config.experts},
        first_k=int(first.k[0]),
        **ask_voices(subject, first, plan, inputs),
    )


def show_networks(model: MoE, plan: Plan, spec: Tensor, scales: Scales) -> dict[str, OwnMap]:
    """What each pretrained network that a plan of one clip asks was sent of its [F, T]."""
    shown = {}
    for index, one in enumerate(model.config.experts):
        if isinstance(one, BackboneSpec) and float(plan.weights[0, index]) > 0:
            spans = scales.merge_spans(merge_spans(plan.spans[0, index].tolist()))
            shown[one.name] = show_sent(spec.double().cpu().numpy(), scales, spans, one.band_hz)
    return shown


def explain_label(
    subject: Subject,
    spec: Tensor,
    sound: MaskableSound | None,
    plan: Plan,
    target: Target,
    method: str,
) -> tuple[Why, dict[str, Array], dict[str, Verdict]]:
    """Why this label, and every map and verdict, for one spectrogram [F, T]."""
    names = dict.fromkeys((*ALWAYS, method))
    maps = {
        name: METHODS[name](subject.model, spec.unsqueeze(0), plan, target, sound)[0]
        for name in names
    }
    verdicts = judge_maps(partial(target.watch, subject), spec, maps, sound)
    arrays = {name: values.cpu().numpy() for name, values in maps.items()}
    words = target.describe(subject.classes)
    why = Why(target, words, method, arrays[method], verdicts[method], verdicts[RANDOM])
    return why, arrays, verdicts


def ask_voices(subject: Subject, first: Plan, plan: Plan, inputs: Inputs) -> dict[str, Any]:
    """What each expert contributes, and the second round's promises; empty for a gate."""
    router = subject.model.router
    if not isinstance(router, PromiseRouter):
        return {}
    replies = call_experts(subject.model.callers(), subject.model.requests(plan, inputs))
    again = look_again(router, first, replies)
    return {
        "asked": ask_each(subject, plan, replies),
        "again": None if again is None else again.double().cpu().numpy(),
    }


def routing_targets(subject: Subject, plan: Plan) -> dict[str, Target]:
    """Targets of the two routing questions that a plan of one clip answers.

    It is the plan of the first round; experts in a fixed order are not chosen.
    """
    fixed = isinstance(subject.model.router, PromiseRouter)
    targets: dict[str, Target | None] = {
        "experts": None if fixed else choose_experts_target(plan),
        "k": choose_k_target(plan, subject.routing, subject.model.first_most),
    }
    return {name: target for name, target in targets.items() if target is not None}


def alone(plan: Plan) -> Plan:
    """The plan with no expert asked: the router decides before any has answered."""
    return plan.with_counts(torch.zeros_like(plan.k))


def explain_routing(subject: Subject, spec: Tensor, plan: Plan, method: str) -> dict[str, Why]:
    """Why these experts and why this K, for one spectrogram [F, T].

    No expert is run: the router reads the glance alone.
    """
    whys = {}
    for question, target in routing_targets(subject, plan).items():
        name = "occlusion" if method == "occlusion" else ROUTING_METHOD
        values = METHODS[name](subject.model, spec.unsqueeze(0), alone(plan), target)[0]
        verdicts = judge_maps(partial(target.watch, subject), spec, {name: values})
        words = target.describe(subject.classes)
        whys[question] = Why(
            target, words, name, values.cpu().numpy(), verdicts[name], verdicts[RANDOM]
        )
    return whys


def try_random_windows(subject: Subject, plan: Plan, inputs: Inputs, class_id: int) -> float | None:
    """Mean probability of a class where a plan's windows are drawn at random.

    None where no expert is asked or every window is sent.
    """
    keep = plan.spans.shape[2]
    if not bool(plan.k[0]) or keep == plan.num_windows:
        return None
    many, fed = repeat_rows(plan, RANDOM_WINDOWS), repeat_rows(inputs, RANDOM_WINDOWS)
    draws = torch.rand(many.window_scores.shape, generator=torch.Generator().manual_seed(0))
    many = many.with_windows(choose_windows(draws.to(plan.spans.device), keep))
    return float(subject.carry_out(many, fed)[:, class_id].mean())


def map_experts(model: MoE, trace: Trace, plan: Plan, target: Target) -> dict[str, Array]:
    """Grad-CAM [F, T] of each expert on the stem map that a plan of one clip asks."""
    maps = {}
    for name in trace.expert_maps:
        cells, shape = expert_grad_cam(trace, target, name), trace.stem.features.shape[2:]
        width, rows = model.config.window_frames, trace.expert_rows[name]
        placed = place_expert_cells(
            cells, plan, name, rows, shape=(shape[0], shape[1]), width=width
        )
        size = (trace.spec.shape[1], trace.spec.shape[2])
        maps[name] = grow_cells(placed, size)[0].cpu().numpy()
    return maps
