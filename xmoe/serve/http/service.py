"""Bytes or samples of one recording -> the answer that HTTP sends. No HTTP and no Ray in here."""

from __future__ import annotations

import asyncio
import functools
import io
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from xmoe import __version__
from xmoe.audio.clip import Clip, DecodeLimits, read_clip
from xmoe.audio.samples import Decoded, check_samples
from xmoe.base.config import ExpertSpec
from xmoe.base.errors import AudioError
from xmoe.experts.registry import build_expert
from xmoe.serve.deploy.trial import Trial
from xmoe.serve.guard.tokens import charge
from xmoe.serve.http.corrections import Corrected, Correction, Corrections
from xmoe.serve.http.explainer import Explainer
from xmoe.serve.http.timeline import choose_hop_s, find_events, list_windows
from xmoe.serve.router.batching import QueueFull
from xmoe.serve.router.limits import Limits
from xmoe.serve.router.router import Cut, RouterCore, Served
from xmoe.serve.schemas import (
    ClassifyAnswer,
    ExpertDescription,
    ExplainOptions,
    ModelDescription,
    Options,
    Readiness,
    RequestLimits,
    SampleDescription,
    SamplesRequest,
)
from xmoe.serve.telemetry.meter import Meter
from xmoe.serve.watch.about import NOTHING_KNOWN, About, read_known
from xmoe.serve.watch.fleet import Siblings
from xmoe.serve.watch.incoming import Incoming, measure_incoming
from xmoe.serve.watch.kept import Kept
from xmoe.serve.watch.ops import Operations
from xmoe.serve.watch.status import Homes
from xmoe.serve.watch.watch import Watch

Read = TypeVar("Read")
Value = TypeVar("Value")

Source = tuple[npt.NDArray[np.float32], int]
# samples [S], their rate in Hz, and the share of them that is clipped


@dataclass(frozen=True)
class Prepared:
    """A recording, its segments, doubts about it, and when it was decoded."""

    decoded: Decoded
    cut: Cut
    doubts: list[str]
    decoded_at: float


class Service:
    """What every route asks: one router, and all that is known about it."""

    def __init__(
        self,
        router: RouterCore,
        *,
        explainer: Explainer,
        about: About = NOTHING_KNOWN,
        homes: Homes | None = None,
        siblings: Siblings | None = None,
    ) -> None:
        self.router = router
        self.settings = router.settings
        self.explainer = explainer
        self.about = about
        self.incoming = Watch(about, self.settings.drift, router.meter)
        self.trial: Trial | None = None
        self.corrections = Corrections(
            router.settings,
            router.config.classes,
            several=not router.predictor.task.exclusive,
            known=functools.cache(lambda: read_known(router.settings.run, about.samples)),
        )
        # Its own thread: a folder that hangs, or another process's lock, must not delay decoding.
        self._writer = ThreadPoolExecutor(1, "corrections")
        self.operations = Operations(
            router, self.incoming, about, lambda: self.trial, homes=homes, siblings=siblings
        )
        # Kept for a second: the route is open to all and costs a call to every expert.
        self.check_ready = Kept(self._ask_experts).get
        self._experts = tuple(map(self._describe_spec, router.config.model.experts))
        http = self.settings.http
        self._decode_limits = DecodeLimits(
            max_duration_s=http.max_duration_s,
            max_samples=http.max_samples,
            max_bytes=http.max_body_bytes,
        )

    @property
    def meter(self) -> Meter:
        return self.router.meter

    def check_limits(self, limits: Limits) -> None:
        """Raise InputError for limits that this run cannot keep."""
        limits.check(self.router.config.routing)

    def decode(self, data: bytes) -> Clip:
        """The recording in ``data``; AudioError where it is none."""
        return read_clip(io.BytesIO(data), limits=self._decode_limits, name="the recording")

    async def classify_bytes(self, data: bytes, options: Options) -> ClassifyAnswer:
        """The answer to a recording in any known format, by this run or the one on trial."""
        if self.trial is None:
            return await self.answer_bytes(data, options)
        return await self.trial.answer(data, options, lambda: self.answer_bytes(data, options))

    async def answer_bytes(self, data: bytes, options: Options) -> ClassifyAnswer:
        """This run's own answer, whatever is on trial beside it."""
        return await self._answer(lambda: self.decode(data).decoded, options, count_samples(data))

    async def classify_samples(
        self, samples: npt.NDArray[np.floating[Any]], sample_rate_hz: int, options: Options
    ) -> ClassifyAnswer:
        """The answer to samples [S]; InputError where they are unusable."""
        return await self._answer(
            lambda: check_samples(samples, sample_rate_hz), options, len(samples)
        )

    async def _read_then(
        self, read: Callable[[], Read], then: Callable[[Read], Value], samples: int | None
    ) -> Value:
        """``then`` of a recording, read within the time limit.

        Both in one go, because each change of thread costs a wait; recordings of few ``samples``
        run in the event loop. AudioError where reading takes too long, QueueFull where its turn
        never came.
        """
        if samples is not None and samples <= self.router.small:
            return then(read())
        begun, done = threading.Event(), threading.Event()

        def work() -> Value:
            begun.set()
            decoded = read()
            done.set()
            return then(decoded)

        going = asyncio.ensure_future(self.router.work(work))
        try:
            limit_s = self.settings.http.decode_timeout_s
            await asyncio.wait([going], timeout=limit_s)
            if not (going.done() or done.is_set()):
                if not begun.is_set():
                    raise QueueFull
                what = f"decoding takes more than {limit_s:g} s"
                raise AudioError("too_long", what, mend="send a shorter part")
            return await going
        finally:
            going.cancel()

    async def _answer(
        self, read: Callable[[], Decoded], options: Options, samples: int | None
    ) -> ClassifyAnswer:
        self.check_limits(options)
        began = time.monotonic()
        ready = await self._read_then(
            read, lambda decoded: self._prepare(decoded, options), samples
        )
        charge(len(ready.decoded.samples) / ready.decoded.sample_rate_hz)
        deadline = began + self._deadline_s(options, ready.cut)
        before_s = {
            "decode": ready.decoded_at - began,
            "frontend": time.monotonic() - ready.decoded_at,
        }
        answering = self.router.answer_cut(ready.cut, options.limits, deadline)
        measured = None
        if self.incoming.has_time():
            served, measured = await asyncio.gather(answering, self._measure(ready.decoded))
        else:
            served = await answering
        doubts = ready.doubts
        if measured is not None:
            doubts = doubts + self.incoming.find_doubts(measured)
        answer = self._describe(served, before_s, doubts)
        if measured is not None:
            self.incoming.note(measured, answer.label)
        if options.explain:
            asked = ExplainOptions(k_max=options.k_max, budget=options.budget)
            record = await self.explain(ready.decoded[:2], asked)
            answer = answer.model_copy(update={"explanation": record})
        return answer

    def _prepare(self, decoded: Decoded, options: Options) -> Prepared:
        samples, rate = decoded.samples, decoded.sample_rate_hz
        self._check_length(len(samples), rate)
        decoded_at = time.monotonic()
        spectro, most = self.router.config.spectro, self.settings.http.max_windows
        doubts = self.router.predictor.doubts(decoded)
        hop_s = choose_hop_s(len(samples) / rate, spectro, options.hop_s, most)
        cut = self.router.cut(samples, rate, hop_s)
        return Prepared(decoded, cut, doubts, decoded_at)

    def _check_length(self, samples: int, sample_rate_hz: int) -> None:
        """Apply the limits of decoded recordings to samples that came as numbers."""
        http = self.settings.http
        if samples > http.max_samples or samples > http.max_duration_s * sample_rate_hz:
            what = f"{samples} samples, {samples / sample_rate_hz:.1f} s, exceed the limit"
            raise AudioError("too_long", what, mend="send a shorter part")

    def _deadline_s(self, options: Options, cut: Cut) -> float:
        """The time a request may take: as it asks, else so much per block of windows."""
        faults = self.settings.faults
        blocks = max(1.0, len(cut.power) / self.router.rows_together(cut))
        usual = faults.deadline_ms * blocks
        asked = usual if options.deadline_ms is None else options.deadline_ms
        return min(asked, faults.max_deadline_ms) / 1000.0

    def _describe(
        self, served: Served, before_s: Mapping[str, float], doubts: list[str]
    ) -> ClassifyAnswer:
        stages_s = {**before_s, **served.stages_s}
        total_s = sum(stages_s.values())
        predictor = self.router.predictor
        answer = predictor.summarise(served.answers, warnings=doubts, seconds=total_s)
        timing = {name: round(value * 1000.0, 3) for name, value in stages_s.items()}
        self.meter.note_answer(k=answer.k, degraded=answer.degraded, stages_s=stages_s)
        return ClassifyAnswer(
            **dict(answer),
            run=self.about.name,
            weights_sha256=self.about.weights_sha256,
            timing_ms=timing | {"total": round(total_s * 1000.0, 3)},
            windows=list_windows(served, predictor),
            events=find_events(served, predictor, self.about.event_rules),
        )

    async def _measure(self, decoded: Decoded) -> Incoming:
        return await self.router.work(lambda: measure_incoming(*decoded[:3]), len(decoded[0]))

    async def _ask_experts(self) -> Readiness:
        """Whether every expert answers a real inference."""
        states = await self.router.check_experts()
        return Readiness(ready=all(state == "ok" for state in states.values()), experts=states)

    def describe_model(self) -> ModelDescription:
        config = self.router.config
        return ModelDescription(
            name="xmoe",
            version=__version__,
            task=config.model.task,
            labels=config.classes,
            frontend=config.spectro,
            experts=self._experts,
            k_max=config.model.k_max,
            budget=config.routing.budget,
            glance_ms=config.routing.glance_ms or None,
            window_fraction=config.routing.window_fraction,
            selector=config.routing.selector,
            topology=self.settings.topology,
            limits=self._limits(),
            run=self.about.name,
            weights_sha256=self.about.weights_sha256,
            training=self.about.training,
            samples=tuple(
                SampleDescription(labels=sample.labels, seconds=sample.seconds)
                for sample in self.about.samples
            ),
            corrections=self.corrections.kept,
            routing_reasons=config.routing.reasons,
        )

    def _describe_spec(self, spec: ExpertSpec) -> ExpertDescription:
        model, costs_ms = self.router.config.model, self.router.config.routing.costs_ms
        costs = dict(zip(model.expert_names, costs_ms, strict=False))
        low_hz, high_hz = spec.band_hz
        card = spec.card if spec.kind == "backbone" else None
        return ExpertDescription(
            name=spec.name,
            kind=spec.kind,
            front_end=build_expert(model, spec.name).describe(),
            licence=None if card is None else card.licence,
            source=None if card is None else card.source,
            band_hz=(round(low_hz, 1), round(high_hz, 1)),
            ms=costs.get(spec.name),
            masked=spec.name in model.masked_experts,
            prior=model.expert_priors.get(spec.name, 1.0),
            reason=self.about.mask_reasons.get(spec.name, getattr(spec, "reason", "")),
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

    async def read_source(self, given: bytes | SamplesRequest) -> Source:
        """Samples and rate of a recording; InputError where it is unusable."""
        if isinstance(given, bytes):
            clip = await self._read_then(
                lambda: self.decode(given), lambda clip: clip, count_samples(given)
            )
            decoded = clip.decoded
        else:
            decoded = check_samples(np.asarray(given.samples, np.float64), given.sample_rate_hz)
        charge(len(decoded.samples) / decoded.sample_rate_hz)
        return decoded[:2]

    async def correct(self, data: bytes, given: Correction, by: str) -> Corrected:
        clip = await self._read_then(lambda: self.decode(data), lambda clip: clip, None)
        charge(clip.duration_s)
        keep = functools.partial(self.corrections.keep, data, clip, given, by)
        return await asyncio.get_running_loop().run_in_executor(self._writer, keep)

    async def explain(self, source: Source, asked: ExplainOptions) -> dict[str, Any]:
        self.check_limits(asked)
        return await self.router.work(lambda: self.explainer.explain(*source, asked))

    async def draw(self, source: Source, asked: ExplainOptions) -> bytes:
        self.check_limits(asked)
        return await self.router.work(lambda: self.explainer.draw(*source, asked))


def count_samples(data: bytes) -> int | None:
    """The samples in a WAV file of 16 bits, None where the length does not tell.

    Telephone codings of WAV hold up to four times as many. Stronger compression, such as FLAC or
    Ogg, may put hours into a few bytes.
    """
    return len(data) // 2 if data[:4] == b"RIFF" else None
