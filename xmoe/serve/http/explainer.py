"""A recording -> the reasons for its answer, as numbers or as a picture.

Explanations look inside every expert, so the whole model is loaded here, on the first request.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from xmoe.audio.segment import Segment
from xmoe.audio.sound import Sound
from xmoe.base.config import RunConfig
from xmoe.explain.reasons import Reasons, find_reasons
from xmoe.explain.scales import scales_of
from xmoe.explain.show.arrays import pack_arrays, pack_overview
from xmoe.explain.show.numbers import to_record
from xmoe.explain.subject import Subject, surest_segment
from xmoe.frontend.measure import measure_power
from xmoe.mixture.calls import call_experts
from xmoe.mixture.plan import Plan
from xmoe.mixture.promise_router import PromiseRouter
from xmoe.mixture.rounds import renew_promises
from xmoe.predict.predictor import Predictor
from xmoe.run.folder import Which, answering_parts
from xmoe.run.remote import fetched
from xmoe.serve.router.limits import Limits, count_experts
from xmoe.serve.schemas import ExplainOptions


class Explainer:
    """Explains the answers of one run with the whole model in this process."""

    def __init__(self, run: str, config: RunConfig, *, which: Which = "best") -> None:
        self._run = run
        self._config = config
        self._which: Which = which
        self._lock = threading.Lock()
        self._predictor: Predictor | None = None

    def _load(self) -> Predictor:
        with self._lock:
            if self._predictor is None:
                parts = answering_parts(self._config.model.expert_names)
                with fetched(self._run, parts, which=self._which) as folder:
                    self._predictor = Predictor.load(folder.path, which=self._which)
            return self._predictor

    def explain(
        self, samples: npt.NDArray[np.float32], sample_rate_hz: int, asked: ExplainOptions
    ) -> dict[str, Any]:
        """The explanation of a recording [S] as numbers, with arrays where asked for."""
        reasons = self._find(samples, sample_rate_hz, asked)
        record = to_record(reasons)
        if not asked.arrays:
            return record
        frontend = self._load().frontend
        power = measure_power(samples, sample_rate_hz, frontend)
        scales = scales_of(frontend, power.shape[1])
        duration_s = len(samples) / sample_rate_hz
        overview = pack_overview(power, scales, duration_s)
        return record | {"arrays": pack_arrays(reasons), "overview": overview}

    def draw(
        self, samples: npt.NDArray[np.float32], sample_rate_hz: int, asked: ExplainOptions
    ) -> bytes:
        from xmoe.explain.show.render import PICTURES
        from xmoe.pictures.style import to_png

        reasons = self._find(samples, sample_rate_hz, asked)
        with self._lock:  # matplotlib is not thread-safe
            return to_png(PICTURES[asked.picture](reasons))

    def _find(
        self, samples: npt.NDArray[np.float32], sample_rate_hz: int, asked: ExplainOptions
    ) -> Reasons:
        predictor = self._load()
        with self._lock:  # gradients of one clip at a time
            segment, spec, sound = pick_segment(predictor, samples, sample_rate_hz, asked.at_s)
            plan = None
            if asked.limits != Limits():
                plan = plan_within(predictor, spec, sound, asked.limits)
            subject = Subject.of(predictor)
            return find_reasons(subject, spec, sound=sound, plan=plan, span_s=segment.span_s)


@torch.no_grad()
def plan_within(predictor: Predictor, spec: Tensor, sound: Sound | None, limits: Limits) -> Plan:
    """The final plan of one segment [F, T], after any second round."""
    model, routing = predictor.model, predictor.config.routing
    plan, inputs = model.prepare(spec.unsqueeze(0), routing, sound=sound)
    if limits != Limits():
        counts = count_experts(plan.promises, [limits], routing, model.first_most)
        plan = plan.with_counts(counts)
    if not isinstance(model.router, PromiseRouter):
        return plan
    replies = call_experts(model.callers(), model.requests(plan, inputs))
    counts = count_experts(renew_promises(model.router, plan, replies), [limits], routing)
    return plan.with_counts(torch.maximum(counts, plan.k))


def pick_segment(
    predictor: Predictor,
    samples: npt.NDArray[np.float32],
    sample_rate_hz: int,
    at_s: float | None,
) -> tuple[Segment, Tensor, Sound | None]:
    """The segment of a recording [S] that starts at ``at_s``, its spectrogram [F, T], and its sound
    where an expert hears it.

    One that would end after the recording is moved to its end. Without ``at_s`` it is the segment
    most certain of the recording's answer.
    """
    segments = predictor.cut(samples, sample_rate_hz)
    if at_s is not None:
        length = len(segments[0].samples)
        start = min(round(at_s * sample_rate_hz), len(samples) - length)
        asked = Segment(samples[start : start + length], sample_rate_hz, start)
        return asked, predictor.measure([asked])[0], predictor.sound_of([asked])
    specs, sound = predictor.measure(segments), predictor.sound_of(segments)
    surest = surest_segment(predictor, specs, sound)
    own = None if sound is None else sound.rows(slice(surest, surest + 1))
    return segments[surest], specs[surest], own
