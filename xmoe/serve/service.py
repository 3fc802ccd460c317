"""Bytes or samples of one recording -> the answer that HTTP sends. No HTTP and no Ray in here."""

from __future__ import annotations

import asyncio
import io
import threading
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from xmoe import __version__
from xmoe.audio.clip import Clip, DecodeLimits, read_clip
from xmoe.classifier.estimator import check_samples
from xmoe.errors import AudioError
from xmoe.explain.scales import scales_of
from xmoe.model.experts import band_rows
from xmoe.serve.about import NOTHING_KNOWN, About
from xmoe.serve.batching import QueueFull
from xmoe.serve.explainer import Explainer
from xmoe.serve.incoming import Incoming, find_doubts, measure_incoming
from xmoe.serve.meter import Meter
from xmoe.serve.router import RouterCore, Served, callable_experts
from xmoe.serve.schemas import (
    ClassifyAnswer,
    ExpertDescription,
    ExpertsAnswer,
    ExpertState,
    ExplainOptions,
    ModelDescription,
    Options,
    Readiness,
    RequestLimits,
    SamplesRequest,
)
from xmoe.serve.status import Homes, ReplicaCount, ReplicaWatch
from xmoe.serve.timeline import choose_hop_s, list_windows, merge_events
from xmoe.serve.watch import Watch

READY_FOR_S = 1.0

Source = tuple[npt.NDArray[np.float32], int]


class Service:
    """What every route asks: one router and what is said about it."""

    def __init__(
        self,
        router: RouterCore,
        *,
        explainer: Explainer,
        about: About = NOTHING_KNOWN,
        homes: Homes | None = None,
    ) -> None:
        self.router = router
        self._watch = ReplicaWatch(homes)
        self.settings = router.settings
        self.explainer = explainer
        self.about = about
        self.incoming = Watch(about, self.settings.drift, router.meter)
        self._ready: tuple[float, Readiness] | None = None
        http = self.settings.http
        self._decode_limits = DecodeLimits(
            max_duration_s=http.max_duration_s,
            max_samples=http.max_samples,
            max_bytes=http.max_body_bytes,
        )

    @property
    def meter(self) -> Meter:
        """Where this service reports to."""
        return self.router.meter

    def decode(self, data: bytes) -> Clip:
        """Return the recording in ``data``; AudioError where it is none."""
        return read_clip(io.BytesIO(data), limits=self._decode_limits, name="the recording")

    async def decode_in_time(self, data: bytes) -> Clip:
        """Return the recording in ``data``, decoded beside the event loop.

        Raises AudioError where it is none or takes too long, QueueFull where its turn never came.
        """
        begun = threading.Event()

        def work() -> Clip:
            begun.set()
            return self.decode(data)

        limit_s = self.settings.http.decode_timeout_s
        try:
            async with asyncio.timeout(limit_s):
                return await self.router.work(work)
        except TimeoutError as error:
            if not begun.is_set():
                raise QueueFull from error
            what = f"it takes more than {limit_s:g} s to decode"
            raise AudioError("too_long", what, mend="send a shorter part") from error

    async def classify_bytes(self, data: bytes, options: Options) -> ClassifyAnswer:
        """Return the answer to a recording in any format that is read."""
        began = time.monotonic()
        clip = await self.decode_in_time(data)
        return await self._answer(
            clip.samples, clip.sample_rate_hz, options, (began, clip.clipped_rate)
        )

    async def classify_samples(self, request: SamplesRequest) -> ClassifyAnswer:
        """Return the answer to a recording that came as numbers."""
        began = time.monotonic()
        samples, rate = await self.router.work(lambda: self.samples_of(request))
        return await self._answer(samples, rate, request, (began, clipped_share(samples)))

    async def classify_window(
        self, samples: npt.NDArray[np.float32], sample_rate_hz: int, options: Options
    ) -> ClassifyAnswer:
        """Return the answer to samples [S] out of a stream; InputError where they are none."""
        began = time.monotonic()
        checked = check_samples(samples, sample_rate_hz)
        noted = began, clipped_share(checked)
        return await self._answer(checked, sample_rate_hz, options, noted)

    async def _answer(
        self,
        samples: npt.NDArray[np.float32],
        sample_rate_hz: int,
        options: Options,
        noted: tuple[float, float],
    ) -> ClassifyAnswer:
        began, clipped = noted
        decoded = time.monotonic()
        duration_s = len(samples) / sample_rate_hz
        hop_s = choose_hop_s(
            duration_s, self.router.config.spectro, options.hop_s, self.settings.http.max_windows
        )
        deadline = began + self._deadline_s(options, duration_s / hop_s)
        measuring = self._measure(samples, sample_rate_hz, clipped)
        served = await self.router.answer(
            samples, sample_rate_hz, options.limits, deadline, hop_s=hop_s
        )
        fmax_hz = self.router.config.spectro.fmax_hz
        doubts = find_doubts(samples, sample_rate_hz, clipped, fmax_hz=fmax_hz)
        heard = None if measuring is None else await measuring
        if heard is not None:
            doubts += self.incoming.find_doubts(heard)
        answer = self._describe(served, {"decode": decoded - began}, doubts)
        if heard is not None:
            self.incoming.note(heard, answer.label)
        if options.explain:
            asked = ExplainOptions(k_max=options.k_max, budget=options.budget)
            record = await self.explain((samples, sample_rate_hz), asked)
            answer = answer.model_copy(update={"explanation": record})
        return answer

    def _deadline_s(self, options: Options, windows: float = 1.0) -> float:
        """Return how long a request may take: what it asks, else so much per block of windows."""
        faults = self.settings.faults
        blocks = max(1.0, windows / self.router.max_rows)
        usual = faults.deadline_ms * blocks
        asked = usual if options.deadline_ms is None else options.deadline_ms
        return min(asked, faults.max_deadline_ms) / 1000.0

    def _describe(
        self, served: Served, before_s: Mapping[str, float], doubts: list[str]
    ) -> ClassifyAnswer:
        stages_s = {**before_s, **served.stages_s}
        total_s = sum(stages_s.values())
        predictor = self.router.predictor
        answer = predictor.summarise(served.segments, warnings=doubts, seconds=total_s)
        timing = {name: round(value * 1000.0, 3) for name, value in stages_s.items()}
        windows = list_windows(served, predictor)
        self.meter.note_answer(k=answer.k, degraded=answer.degraded, stages_s=stages_s)
        return ClassifyAnswer(
            **dict(answer),
            timing_ms=timing | {"total": round(total_s * 1000.0, 3)},
            windows=windows,
            events=merge_events(windows),
        )

    def _measure(
        self, samples: npt.NDArray[np.float32], sample_rate_hz: int, clipped: float
    ) -> asyncio.Task[Incoming] | None:
        """Begin to measure a recording [S] while it is answered, if there is time for it."""
        if not self.incoming.has_time():
            return None
        return asyncio.create_task(
            self.router.work(lambda: measure_incoming(samples, sample_rate_hz, clipped))
        )

    async def check_ready(self) -> Readiness:
        """Return whether every expert answers a real inference; the finding is kept for a second.

        Kept because the route is open to all and costs a call to every expert.
        """
        if self._ready is not None and time.monotonic() - self._ready[0] < READY_FOR_S:
            return self._ready[1]
        states = await self.router.check_experts()
        found = Readiness(ready=all(state == "ok" for state in states.values()), experts=states)
        self._ready = (time.monotonic(), found)
        return found

    def describe_model(self) -> ModelDescription:
        """Return what is served."""
        config = self.router.config
        model = self.router.predictor.model
        scales = scales_of(self.router.predictor.frontend, config.spectro.num_frames)
        experts = []
        for name in config.model.experts:
            low_hz, high_hz = scales.rows_hz(*band_rows(name, model.stem.num_rows))
            experts.append(
                ExpertDescription(
                    name=name,
                    band_hz=(round(low_hz, 1), round(high_hz, 1)),
                    masked=name in config.model.masked_experts,
                    prior=config.model.expert_priors.get(name, 1.0),
                    reason=self.about.mask_reasons.get(name, ""),
                )
            )
        return ModelDescription(
            name="xmoe",
            version=__version__,
            task=config.model.task,
            labels=config.classes,
            frontend=config.spectro,
            experts=tuple(experts),
            k_max=config.model.k_max,
            budget=config.routing.budget,
            window_fraction=config.routing.window_fraction,
            selector=config.routing.selector,
            topology=self.settings.topology,
            limits=self._limits(),
            run=self.about.name,
            weights_sha256=self.about.weights_sha256,
            training=self.about.training,
            routing_reasons=config.routing.reasons,
        )

    def _limits(self) -> RequestLimits:
        http, faults = self.settings.http, self.settings.faults
        return RequestLimits(
            max_body_bytes=http.max_body_bytes,
            max_duration_s=http.max_duration_s,
            max_samples=http.max_samples,
            max_files=http.max_files,
            max_windows=http.max_windows,
            deadline_ms=faults.deadline_ms,
            max_deadline_ms=faults.max_deadline_ms,
        )

    async def describe_experts(self) -> ExpertsAnswer:
        """Return the experts as this router sees them."""
        counts = await self._watch.count()
        names = callable_experts(self.router.config)
        states = tuple(self._describe_expert(name, counts.get(name)) for name in names)
        return ExpertsAnswer(experts=states, waiting_segments=self.router.waiting)

    def _describe_expert(self, name: str, replicas: ReplicaCount | None) -> ExpertState:
        tally = self.router.fanout.tallies[name]
        running = 1 if replicas is None else replicas.running
        at_once = running * self.settings.deployment_of(name).max_ongoing_requests
        return ExpertState(
            name=name,
            deployment=self._watch.deployment_of(name),
            replicas=replicas,
            breaker=self.router.fanout.breakers[name].state,
            calls=tally.calls,
            ongoing=tally.ongoing,
            queued=max(0, tally.ongoing - at_once),
            failures=dict(tally.failures),
            mean_ms=tally.mean_ms,
            p95_ms=tally.p95_ms,
        )

    async def clip_of(self, data: bytes) -> Source:
        """Return samples and rate of a recording in any format that is read."""
        clip = await self.decode_in_time(data)
        return clip.samples, clip.sample_rate_hz

    def samples_of(self, request: SamplesRequest) -> Source:
        """Return samples and rate of a recording that came as numbers; InputError if it is none."""
        rate = request.sample_rate_hz
        return check_samples(np.asarray(request.samples, np.float64), rate), rate

    async def explain(self, source: Source, asked: ExplainOptions) -> dict[str, Any]:
        """Return the explanation of a recording as numbers."""
        return await self.router.work(lambda: self.explainer.explain(*source, asked))

    async def draw(self, source: Source, asked: ExplainOptions) -> bytes:
        """Return one picture of the explanation of a recording as PNG."""
        return await self.router.work(lambda: self.explainer.draw(*source, asked))


def clipped_share(samples: npt.NDArray[np.float32]) -> float:
    """Return the share of samples [S] at full scale or over it."""
    return float((np.abs(samples) >= 1.0).mean())
