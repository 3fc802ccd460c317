"""Neighbouring segments of a recording -> answers, with an expensive expert asked once per moment.

A rare event lies in several segments, and each of them would ask the same costly network about it,
mostly with the event cut in two. Here the stem answers every segment, and cheap experts those that
may hold an event. If they agree, segments whose salient moments are close together are answered by
one extra segment, cut around that moment. Whether to ask does not follow the router's promises:
they were learned on clips, where events are not rare.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from xmoe.audio.segment import Samples, Segment
from xmoe.base.config import ModelConfig
from xmoe.experts.protocol import Inputs
from xmoe.glance.spans import choose_runs
from xmoe.mixture.calls import call_experts
from xmoe.mixture.combine import combine
from xmoe.mixture.plan import Plan
from xmoe.predict.answer import SegmentAnswers
from xmoe.predict.predictor import Predictor

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Wake:
    """The ``chance`` of an event from which an expensive expert is asked, given ``background``
    classes.
    """

    chance: float
    background: Collection[str]

    def of(self, predictor: Predictor, answers: SegmentAnswers) -> Tensor:
        """The chance that each segment [n] holds an event."""
        p = predictor.task.probabilities(answers.logits.double())
        events = [name not in self.background for name in predictor.config.classes]
        own = p[:, torch.tensor(events)]
        return own.sum(1) if predictor.task.exclusive else own.amax(1)


@dataclass(frozen=True)
class Woken:
    """Answers to n segments.

    ``around`` [n] is the start in samples of the segment around a moment that answers instead, and
    -1 if no expensive expert was asked.
    """

    answers: SegmentAnswers
    around: Ints


def count_cheap(model: ModelConfig) -> int | None:
    """How many experts are asked before the first pretrained network; None if there is none."""
    kinds = [spec.kind for spec in model.experts][: model.k_max]
    if model.router != "promise" or "backbone" not in kinds:
        return None
    return kinds.index("backbone")


@torch.inference_mode()
def answer_moments(
    predictor: Predictor, segments: Sequence[Segment], specs: Tensor, wake: Wake
) -> Woken:
    """Answer neighbouring segments, whose spectrograms are ``specs`` [n, F, T].

    Cheap experts get them as they are, the others only segments around salient moments.
    """
    model, routing = predictor.model, predictor.config.routing
    cheap = count_cheap(model.config)
    assert cheap is not None
    plan, inputs = model.prepare(
        specs.to(predictor.device), routing, sound=predictor.sound_of(segments)
    )
    alone = plan.with_counts(torch.zeros_like(plan.k))
    glance = wake.of(predictor, predictor.read_combined(alone, combine(alone, {})))
    asked = plan.with_counts(cheap * (glance >= wake.chance).to(plan.k))
    replies = call_experts(predictor.experts, model.requests(asked, inputs))
    first = predictor.read_combined(asked, combine(asked, replies))
    rate_hz, half = segments[0].sample_rate_hz, len(segments[0].samples) // 2

    def look(segments: Sequence[Segment], plan: Plan) -> Ints:
        starts = np.array([segment.start for segment in segments], np.int64)
        return starts + np.round(find_moments(plan, cheap) * rate_hz).astype(np.int64)

    def prepare(rows: Ints) -> tuple[list[Segment], Plan, Inputs]:
        cuts = [cut_around(segments, int(places[row])) for row in rows]
        sound = predictor.sound_of(cuts)
        return cuts, *model.prepare(
            predictor.measure(cuts).to(predictor.device), routing, sound=sound
        )

    places = look(segments, plan)
    worth = torch.where(glance >= wake.chance, wake.of(predictor, first), -1.0).numpy()
    worth -= wake.chance
    owners = share_moments(places, worth, half)
    around = np.full(len(segments), -1, np.int64)
    owned = np.flatnonzero(owners >= 0)
    if not len(owned):
        return Woken(first, around)
    # A segment sees only its own part of an event on its border: look once more.
    chosen = np.unique(owners[owned])
    places[chosen] = look(*prepare(chosen)[:2])
    again = share_moments(places[chosen], worth[chosen], half)
    owners[owned] = chosen[again][np.searchsorted(chosen, owners[owned])]
    chosen, picked = np.unique(owners[owned], return_inverse=True)
    cuts, plan, inputs = prepare(chosen)
    plan = plan.with_counts(cheap + 1 + plan.promises[:, cheap + 1 :].argmax(1))
    replies = call_experts(predictor.experts, model.requests(plan, inputs))
    second = predictor.read_combined(plan, combine(plan, replies))
    around[owned] = np.array([segment.start for segment in cuts])[picked]
    into, out_of = torch.from_numpy(owned), torch.from_numpy(picked)
    merged = (
        old.index_copy(0, into, new[out_of])
        for old, new in zip(vars(first).values(), vars(second).values(), strict=True)
    )
    return Woken(SegmentAnswers(*merged), around)


def find_moments(plan: Plan, expert: int) -> Floats:
    """Middle of the most salient half of each segment [B], in s from its start."""
    scores = plan.window_scores[:, expert].cpu()
    edges = np.asarray(plan.window_edges_s)
    width = max(scores.shape[1] // 2, 1)
    first = choose_runs(scores, width, 1)[:, 0].numpy()
    return np.asarray((edges[first] + edges[np.minimum(first + width, len(edges) - 1)]) / 2)


def share_moments(places: Ints, worth: Floats, apart: int) -> Ints:
    """For each place [n] in time, the index whose moment answers it; -1 if not worth asking.

    Greedy by worth; places within ``apart`` of a chosen moment are answered by it.
    """
    owners = np.full(len(places), -1, np.int64)
    wanted = worth >= 0
    while (left := wanted & (owners < 0)).any():
        best = int(np.where(left, worth, -np.inf).argmax())
        owners[left & (np.abs(places - places[best]) <= apart)] = best
    return owners


def cut_around(segments: Sequence[Segment], place: int) -> Segment:
    """A segment as long as the others, centred on a sample as far as they cover it."""
    length = len(segments[0].samples)
    start = min(max(place - length // 2, segments[0].start), segments[-1].end - length)
    samples: Samples = np.zeros(length, np.float32)
    for segment in segments:
        first, last = max(segment.start, start), min(segment.end, start + length)
        if first < last:
            samples[first - start : last - start] = segment.samples[
                first - segment.start : last - segment.start
            ]
    return Segment(samples, segments[0].sample_rate_hz, start)
