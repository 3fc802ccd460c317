"""Recordings -> answers: front end, stem, saliency and gate once; then experts; then combine.

The same three steps as in one process, but for many requests at a time: waiting segments are
planned together, and each expert is called once for all of them.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from opentelemetry.context import Context, get_current
from torch import Tensor

from xmoe.audio.segment import Segment
from xmoe.audio.sound import Sound, hold_sound, join_sounds
from xmoe.base.config import RunConfig
from xmoe.base.layers import fold_norms
from xmoe.experts.protocol import Inputs
from xmoe.frontend.measure import measure_segments
from xmoe.mixture.calls import CallExpert, CallFailed
from xmoe.mixture.combine import Combined
from xmoe.mixture.moe import MoE
from xmoe.mixture.plan import Plan
from xmoe.predict.answer import SegmentAnswers, join_answers
from xmoe.predict.predictor import Predictor
from xmoe.run.folder import ROUTER, STEM
from xmoe.run.remote import fetched
from xmoe.serve.router.batching import MicroBatcher
from xmoe.serve.router.block import Block, Seat
from xmoe.serve.router.fanout import FanOut, wait_until
from xmoe.serve.router.further import Further
from xmoe.serve.router.limits import Limits, count_experts
from xmoe.serve.router.replan import to_cpu
from xmoe.serve.settings import ServeSettings
from xmoe.serve.telemetry import traces
from xmoe.serve.telemetry.meter import Meter

Value = TypeVar("Value")
READY_S = 5.0
# A long recording has two blocks in flight, so that short ones are answered in between.
JOBS_AT_ONCE = 2
# A few short segments (10 to 30 ms of work) are planned in the event loop itself: a thread would
# cost more than it gives, since both need the interpreter at every step.
SMALL_CELLS = 1 << 17
# One Fourier transform: a few milliseconds for a small recording. The others take far longer.
QUICK_FRONTENDS = frozenset({"stft", "logmel", "pcen"})
# Experts of known cost take at most this share of the usual deadline for a block.
BLOCK_SHARE = 0.2
SAMPLE_BYTES = 2


@dataclass(frozen=True)
class Job:
    """Segments of one request that are planned together, and its limits.

    ``power`` [n, F, T] before compression, ``valid`` [n], the frames that are not padding, and the
    ``sound`` of the segments where an expert hears it. ``trace`` is the request's.
    """

    power: Tensor
    valid: Tensor
    sound: Sound | None
    limits: Limits
    deadline: float
    trace: Context = field(default_factory=get_current)


@dataclass(frozen=True)
class Cut:
    """The segments of a recording, their power [n, F, T] and the number of unpadded frames [n];
    compressed later, with the segments of other requests.
    """

    power: Tensor
    valid: Tensor
    segments: Sequence[Segment]


@dataclass(frozen=True)
class Served:
    """The segments of one recording, their answers, and seconds by stage."""

    segments: Sequence[Segment]
    answers: SegmentAnswers
    stages_s: dict[str, float]


class RouterCore:
    """The router of one run; ``callers`` reach its experts, wherever they are."""

    def __init__(
        self,
        predictor: Predictor,
        callers: Mapping[str, CallExpert],
        settings: ServeSettings,
        *,
        meter: Meter | None = None,
    ) -> None:
        self.predictor = predictor
        self.settings = settings
        self.meter = meter or Meter()
        experts = predictor.config.model.experts
        self.fanout = FanOut(callers, settings.faults, experts, self.meter)
        self.further = Further(predictor.model.router, predictor.config.routing, self.fanout)
        self._model_thread = ThreadPoolExecutor(1, "model")
        self._decoders = ThreadPoolExecutor(settings.router.decode_threads, "decode")
        quick = predictor.config.spectro.frontend in QUICK_FRONTENDS
        self.small = settings.router.small_samples if quick else 0
        self.max_rows = rows_per_block(predictor, settings)
        self._batcher: MicroBatcher[Job, Seat] = MicroBatcher(
            self._start_block,
            size_of=lambda job: len(job.power),
            max_size=self.max_rows,
            max_waiting=settings.router.max_waiting,
            fit=self._fit,
        )

    @property
    def config(self) -> RunConfig:
        return self.predictor.config

    @property
    def waiting(self) -> int:
        """Segments that wait for a micro-batch."""
        return self._batcher.waiting

    async def work(self, function: Callable[[], Value], samples: int | None = None) -> Value:
        """Run a function of a recording with so many samples, such as its decoding.

        In a thread, unless the recording is known to be small: threads that contend for the
        interpreter at every step cost more than the event loop loses by waiting a millisecond.
        """
        if samples is not None and samples <= self.small:
            return function()
        return await asyncio.get_running_loop().run_in_executor(self._decoders, function)

    async def answer_cut(self, cut: Cut, limits: Limits, deadline: float) -> Served:
        """The answers to the segments of a recording.

        QueueFull where too much is waiting, TooFewExperts where too little answered.
        """
        began = time.monotonic()
        size = self.rows_together(cut)
        parts = [slice(first, first + size) for first in range(0, len(cut.segments), size)]
        turns = asyncio.Semaphore(JOBS_AT_ONCE)

        async def answer(rows: slice) -> tuple[SegmentAnswers, float]:
            async with turns:
                return await self._answer_job(await self._make_job(cut, rows, limits, deadline))

        if len(parts) == 1:
            done = [await answer(parts[0])]
        else:
            done = await asyncio.gather(*map(answer, parts))
        planned = max(moment for _, moment in done)
        stages_s = {"plan": planned - began, "experts": time.monotonic() - planned}
        return Served(cut.segments, join_answers([part for part, _ in done]), stages_s)

    def cut(
        self, samples: npt.NDArray[np.float32], sample_rate_hz: int, hop_s: float | None = None
    ) -> Cut:
        """The segments of a recording [S], ``hop_s`` apart or as in training."""
        segments = self.predictor.cut(samples, sample_rate_hz, hop_s)
        return Cut(*measure_segments(segments, self.predictor.frontend), segments)

    def rows_together(self, cut: Cut) -> int:
        """How many segments of a recording are planned together."""
        if not self.config.model.hears_sound:
            return self.max_rows
        most = self.settings.router.max_call_bytes
        return max(1, min(self.max_rows, most // (SAMPLE_BYTES * len(cut.segments[0].samples))))

    def _fit(self, jobs: Sequence[Job]) -> bool:
        """Whether the sound of jobs, each row padded to the longest, fits into one call."""
        sounds = [job.sound for job in jobs if job.sound is not None]
        longest = max((sound.samples.shape[1] for sound in sounds), default=0)
        rows = sum(map(len, sounds))
        return SAMPLE_BYTES * longest * rows <= self.settings.router.max_call_bytes

    async def _make_job(self, cut: Cut, rows: slice, limits: Limits, deadline: float) -> Job:
        """Some segments as a job; their sound is made only now that it is needed."""
        segments, sound = cut.segments[rows], None
        if self.config.model.hears_sound:
            samples = sum(len(segment.samples) for segment in segments)
            sound = await self.work(lambda: hold_sound(segments), samples)
        return Job(cut.power[rows], cut.valid[rows], sound, limits, deadline)

    async def _answer_job(self, job: Job) -> tuple[SegmentAnswers, float]:
        """The answers to a job, and when it was planned."""
        seat = await self._batcher.submit(job)
        planned = time.monotonic()
        return await self._collect(seat), planned

    async def _collect(self, seat: Seat) -> SegmentAnswers:
        """The answers to a request; one that lacks an expert goes on alone."""
        first_round = self.fanout.first_round_end(seat.deadline)
        await wait_until(seat.calls.values(), first_round)
        answers = seat.answers()
        if answers is not None:
            further = await self.further.ask(seat, first_round)
            return answers if further is None else self._read(further.plan, further.combine())
        share = seat.share()
        gathered = await self.fanout.collect(share, first_round)
        gathered = await self.further.go_on(share, gathered, seat.limits, first_round)
        return self._read(gathered.plan, gathered.combine())

    def _read(self, plan: Plan, combined: Combined) -> SegmentAnswers:
        return self.predictor.read_combined(plan, combined)

    async def _start_block(self, jobs: list[Job]) -> list[Seat]:
        loop = asyncio.get_running_loop()
        with traces.span_of_many("plan", [job.trace for job in jobs]):
            if sum(job.power.numel() for job in jobs) <= SMALL_CELLS:
                wanted, inputs = self._plan(jobs)
            else:
                wanted, inputs = await loop.run_in_executor(self._model_thread, self._plan, jobs)
            plan = self.fanout.avoid_open(wanted, inputs)
            calls = self.fanout.start(plan, inputs, max(job.deadline for job in jobs))
        self.meter.note_block(len(plan.weights))
        renew = self.further.renew
        block = Block(wanted, plan, inputs, calls, read=self._read, renew=renew)
        ends = list(itertools.accumulate(len(job.power) for job in jobs))
        firsts = [0, *ends[:-1]]
        return [
            Seat(block, first, end, job.limits, job.deadline)
            for job, first, end in zip(jobs, firsts, ends, strict=True)
        ]

    @torch.inference_mode()
    def _plan(self, jobs: Sequence[Job]) -> tuple[Plan, Inputs]:
        model, routing = self.predictor.model, self.config.routing
        power, valid, sound = join_jobs(jobs)
        specs = self.predictor.frontend.compress(power, valid)
        specs = specs.to(self.predictor.device)
        prepared = model.prepare(specs, routing, sound=sound, only_needed=True)
        plan, inputs = to_cpu(prepared[0]), to_cpu(prepared[1])
        if all(job.limits == Limits() for job in jobs):
            return plan, inputs
        limits = [job.limits for job in jobs for _ in range(len(job.power))]
        counts = count_experts(plan.promises, limits, routing, model.first_most)
        return plan.with_counts(counts), inputs

    async def check_experts(self, timeout_s: float = READY_S) -> dict[str, str]:
        """``ok`` or what is wrong, for each expert, by a real inference."""
        every = len(self.config.model.experts)

        def plan_all() -> tuple[Plan, Inputs]:
            plan, inputs = plan_noise(self.predictor, k=every)
            return to_cpu(plan), to_cpu(inputs)

        loop = asyncio.get_running_loop()
        plan, inputs = await loop.run_in_executor(self._model_thread, plan_all)
        deadline = time.monotonic() + timeout_s
        calls = self.fanout.start(plan, inputs, deadline, even_shut_out=True)
        await wait_until(calls.values(), deadline)
        return {name: _state(call) for name, call in calls.items()}

    def close(self) -> None:
        self._model_thread.shutdown(wait=False)
        self._decoders.shutdown(wait=False)


def _state(call: asyncio.Task[object]) -> str:
    if not call.done() or call.cancelled():
        return "timeout"
    error = call.exception()
    if isinstance(error, CallFailed):
        return error.kind
    return "ok" if error is None else "error"


def join_jobs(jobs: Sequence[Job]) -> tuple[Tensor, Tensor, Sound | None]:
    """Power, valid frames and sound of all jobs."""
    if len(jobs) == 1:
        return jobs[0].power, jobs[0].valid, jobs[0].sound
    sounds = [job.sound for job in jobs if job.sound is not None]
    power, valid = (torch.cat([getattr(job, name) for job in jobs]) for name in ("power", "valid"))
    return power, valid, join_sounds(sounds) if sounds else None


def plan_noise(predictor: Predictor, *, k: int) -> tuple[Plan, Inputs]:
    """The plan of a segment of noise for ``k`` experts, and its inputs."""
    spectro, routing = predictor.config.spectro, predictor.config.routing
    specs = torch.randn(1, spectro.num_bins, spectro.num_frames).to(predictor.device)
    noise = torch.randn(spectro.segment_samples).numpy()
    sound = predictor.sound_of([Segment(noise, spectro.sample_rate_hz, 0)])
    return predictor.model.prepare(specs, routing, sound=sound, k=k)


def rows_per_block(predictor: Predictor, settings: ServeSettings) -> int:
    """How many segments one call may carry; plans one segment, which warms the model up.

    Bounded by the bytes of a call, and by its duration where that is known.
    """
    _, inputs = plan_noise(predictor, k=0)
    return bound_rows(predictor.config, settings, inputs.stem_map[0].numel())


def bound_rows(config: RunConfig, settings: ServeSettings, row_bytes: int) -> int:
    """How many segments one call may carry where each is so many bytes of it."""
    rows = settings.router.max_rows
    if row_bytes:
        rows = min(rows, settings.router.max_call_bytes // row_bytes)
    if cost_ms := sum(config.routing.costs_ms):
        rows = min(rows, int(BLOCK_SHARE * settings.faults.deadline_ms / cost_ms))
    return max(1, rows)


def load_router(settings: ServeSettings, *, device: torch.device | None = None) -> Predictor:
    """A predictor with stem and router alone: the experts are elsewhere."""
    with fetched(settings.run, [STEM, ROUTER], which=settings.which) as folder:
        config = folder.read_config()
        model = MoE(config.model, config.spectro)
        model.stem.load_state_dict(folder.load_tensors(STEM, settings.which))
        model.router.load_state_dict(folder.load_tensors(ROUTER, settings.which))
    model.experts.clear()
    fold_norms(model.stem)
    return Predictor(config, model, device=device)
