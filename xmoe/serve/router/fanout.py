"""A plan -> one stacked call per expert -> the replies that each request has by its deadline.

The requests of a block share calls but not the wait: one with a short deadline goes on without an
expert for which its neighbour still waits. Where too little of the planned weight answers, the
next-ranked experts are asked; only if that fails is the request refused.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from xmoe.base.config import ExpertSpec
from xmoe.experts.protocol import ExpertReply, ExpertRequest, Inputs
from xmoe.mixture.calls import CallExpert, CallFailed, make_requests, merge_replies
from xmoe.mixture.combine import Combined, combine, mark_missing
from xmoe.mixture.plan import Plan, drop_rows
from xmoe.serve.experts.breaker import make_breakers
from xmoe.serve.router.replan import lost_mass, without_experts
from xmoe.serve.settings import FaultSettings
from xmoe.serve.telemetry import traces
from xmoe.serve.telemetry.meter import Meter
from xmoe.serve.telemetry.tally import Tally

LOG = logging.getLogger("xmoe.serve")
Calls = dict[str, "asyncio.Task[ExpertReply]"]


class TooFewExperts(Exception):
    """Too little of the planned weight answered, even with the next-ranked experts."""


@dataclass(frozen=True)
class Share:
    """One request's share of a block.

    ``wanted`` is its plan before experts were lost, ``plan`` the one carried out, ``inputs`` what
    its experts are fed from; ``calls`` answer rows of the whole block, of which this request has
    ``first`` to ``last``. ``deadline`` is in seconds of ``time.monotonic``.
    """

    wanted: Plan
    plan: Plan
    inputs: Inputs
    calls: Calls
    first: int
    last: int
    deadline: float


@dataclass(frozen=True)
class Gathered:
    """The ``replies`` to some rows of the ``plan`` that was carried out.

    ``wanted`` [n, E] marks all experts that were ever wanted.
    """

    wanted: Tensor
    plan: Plan
    replies: dict[str, ExpertReply]

    @classmethod
    def of(cls, share: Share) -> Gathered:
        """The replies to a request so far."""
        return cls(
            share.wanted.weights > 0, share.plan, share_of(share.calls, share.first, share.last)
        )

    def combine(self) -> Combined:
        """The answer; experts that were wanted and did not reply count as missing."""
        return mark_missing(self.wanted, combine(self.plan, self.replies))


class FanOut:
    """Calls experts, with a breaker for each."""

    def __init__(
        self,
        callers: Mapping[str, CallExpert],
        faults: FaultSettings,
        experts: Sequence[ExpertSpec],
        meter: Meter | None = None,
    ) -> None:
        self.experts = experts
        self.callers = dict(callers)
        self.faults = faults
        self.meter = meter or Meter()
        self.breakers = make_breakers(
            callers, failures=faults.breaker_failures, open_s=faults.breaker_open_s
        )
        self.tallies = {name: Tally() for name in callers}
        self._running: set[asyncio.Task[ExpertReply]] = set()

    def shut_out(self) -> set[str]:
        """The experts whose answer nobody waits for."""
        return {name for name, breaker in self.breakers.items() if breaker.state != "closed"}

    def avoid_open(self, plan: Plan, inputs: Inputs) -> Plan:
        """The plan with others in place of shut-out experts, in rows that need them.

        A half-open expert still gets a copy of its share, to find out whether it is back; no
        request waits for that.
        """
        lost = self.shut_out()
        if not lost:
            return plan
        self._probe(plan, inputs)
        return without_experts(plan, lost, lost_mass(plan, lost) > 1.0 - self.faults.min_gate_mass)

    def _probe(self, plan: Plan, inputs: Inputs) -> None:
        if not any(breaker.state == "half-open" for breaker in self.breakers.values()):
            return
        deadline = time.monotonic() + self.faults.deadline_ms / 1000.0
        for request in make_requests(plan, inputs, self.experts):
            breaker = self.breakers[request.name]
            if breaker.state == "half-open" and breaker.allows():
                self._begin(self._run(request, deadline, plan.stem_logits.shape[1]))

    def start(
        self,
        plan: Plan,
        inputs: Inputs,
        deadline: float,
        *,
        even_shut_out: bool = False,
        traced_as: str = "round 1",
    ) -> Calls:
        """Start one stacked call to each expert in the plan.

        A shut-out expert fails at once, unless ``even_shut_out``.
        """
        ask = self._run if even_shut_out else self.call
        num_classes = plan.stem_logits.shape[1]

        def begin() -> Calls:
            return {
                request.name: self._begin(ask(request, deadline, num_classes))
                for request in make_requests(plan, inputs, self.experts)
            }

        return traces.round_of(traced_as, begin)

    def _begin(self, call: Coroutine[Any, Any, ExpertReply]) -> asyncio.Task[ExpertReply]:
        task = asyncio.create_task(call)
        self._running.add(task)
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[ExpertReply]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # retrieved, or asyncio complains; it was noted where it happened

    async def call(self, request: ExpertRequest, deadline: float, num_classes: int) -> ExpertReply:
        """One expert's reply; any failure becomes CallFailed."""
        if self.breakers[request.name].state != "closed":
            raise CallFailed("shut_out")
        return await self._run(request, deadline, num_classes)

    async def _run(self, request: ExpertRequest, deadline: float, num_classes: int) -> ExpertReply:
        with traces.span_of_call(request.name, len(request.rows)):
            return await self._run_noted(request, deadline, num_classes)

    async def _run_noted(
        self, request: ExpertRequest, deadline: float, num_classes: int
    ) -> ExpertReply:
        breaker = self.breakers[request.name]
        began = time.monotonic()
        self.tallies[request.name].begin()
        try:
            logits = await self._try(request, deadline)
            shape = getattr(logits, "shape", None)
            if shape != (len(request.rows), num_classes):
                raise CallFailed("error")
        except CallFailed as failure:
            self._note(request.name, failure.kind, began)
            hurried = deadline - began < self.faults.deadline_ms / 2000.0
            if not (failure.kind == "overloaded" or (failure.kind == "timeout" and hurried)):
                breaker.fail()
            raise
        except asyncio.CancelledError:
            self._note(request.name, "cancelled", began)
            raise
        finite = np.isfinite(logits.numpy()).all(axis=1)
        outcome = "ok" if finite.all() else "nonfinite"
        self._note(request.name, outcome, began)
        breaker.succeed() if finite.any() else breaker.fail()
        return ExpertReply(request.rows, logits)

    def _note(self, name: str, outcome: str, began: float) -> None:
        seconds = time.monotonic() - began
        self.tallies[name].end(outcome, seconds)
        self.meter.note_call(name, outcome, seconds)
        traces.note(outcome=outcome)

    async def _try(self, request: ExpertRequest, deadline: float) -> Tensor:
        """Logits; retried once, in time, where the replica is dead or of another run."""
        for attempt in range(self.faults.retries + 1):
            left = deadline - time.monotonic()
            if left <= 0:
                break
            try:
                async with asyncio.timeout(left):
                    return await self._ask(request, left)
            except TimeoutError:
                break
            except CallFailed as failure:
                again = failure.kind in ("dead", "other_run")
                if not again or attempt == self.faults.retries:
                    raise
        raise CallFailed("timeout")

    async def _ask(self, request: ExpertRequest, budget_s: float) -> Tensor:
        """Logits of one attempt; whatever the expert raises becomes CallFailed.

        A cancellation that nobody here asked for means that the expert ended.
        """
        try:
            return await self.callers[request.name](request, budget_s)
        except (CallFailed, TimeoutError):
            raise
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise CallFailed("dead") from None
        except Exception as error:
            LOG.warning("expert %s failed: %s", request.name, type(error).__name__)
            raise CallFailed("error") from error

    def first_round_end(self, deadline: float) -> float:
        """When others are asked in place of planned experts that are silent."""
        begun = time.monotonic()
        return begun + (deadline - begun) * self.faults.first_round_share

    async def collect(self, share: Share, first_round: float | None = None) -> Gathered:
        """The replies to a request by its deadline; TooFewExperts where they are too few.

        From ``first_round`` on, others are asked in place of those missing.
        """
        if first_round is None:
            first_round = self.first_round_end(share.deadline)
        await wait_until(share.calls.values(), first_round)
        gathered = Gathered.of(share)
        combined = combine(gathered.plan, gathered.replies)
        weak = self._too_little(share, share.plan, combined)
        if bool(weak.any()):
            return await self._ask_others(share, combined, weak)
        if any(not call.done() for call in share.calls.values()):
            await wait_until(share.calls.values(), share.deadline)
            return Gathered.of(share)
        return gathered

    async def _ask_others(self, share: Share, combined: Combined, weak: Tensor) -> Gathered:
        """Ask the next-ranked experts for the rows that are ``weak`` [n]."""
        names = share.plan.expert_names
        lost = {n for n, gone in zip(names, combined.missing.any(0).tolist(), strict=True) if gone}
        plan = without_experts(share.plan, lost | self.shut_out(), weak)
        unanswered = drop_rows(plan, combined.answered)
        others = self.start(unanswered, share.inputs, share.deadline, traced_as="in their place")
        await wait_until(others.values(), share.deadline)
        replies = merge_replies(share_of(share.calls, share.first, share.last), finished(others))
        if bool(self._too_little(share, plan, combine(plan, replies)).any()):
            raise TooFewExperts
        return Gathered(share.wanted.weights > 0, plan, replies)

    def _too_little(self, share: Share, plan: Plan, combined: Combined) -> Tensor:
        """The rows [n] in which less than ``min_gate_mass`` of the weight answered."""
        nobody_left = share.wanted.weights.any(1) & ~plan.weights.any(1)
        mass = combined.gate_mass.masked_fill(nobody_left, 0.0)
        return mass < self.faults.min_gate_mass


async def wait_until(calls: Iterable[asyncio.Task[ExpertReply]], moment: float) -> None:
    """Wait for calls until a moment of ``time.monotonic``, without cancelling them."""
    pending = [call for call in calls if not call.done()]
    if pending:
        await asyncio.wait(pending, timeout=max(0.0, moment - time.monotonic()))


def finished(calls: Calls) -> dict[str, ExpertReply]:
    """The replies of calls that succeeded."""
    return {
        name: call.result()
        for name, call in calls.items()
        if call.done() and not call.cancelled() and call.exception() is None
    }


def share_of(calls: Calls, first: int, last: int) -> dict[str, ExpertReply]:
    """Replies to rows ``first`` to ``last`` of a block, renumbered from 0."""
    replies = {}
    for name, reply in finished(calls).items():
        own = (reply.rows >= first) & (reply.rows < last)
        if bool(own.any()):
            replies[name] = ExpertReply(reply.rows[own] - first, reply.logits[own])
    return replies
