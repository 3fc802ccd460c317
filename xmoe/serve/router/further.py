"""The first experts' answers -> whom to ask next: the same fan-out, once more.

Only a router that promises asks twice. Requests of a block share the calls of their second round as
they did those of the first. It starts within the first round's time, and if it fails in part the
answer is that of the experts that did reply.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace

import torch
from torch import Tensor

from xmoe.base.config import RoutingConfig
from xmoe.experts.protocol import ExpertReply
from xmoe.glance.router import Router
from xmoe.mixture.calls import merge_replies
from xmoe.mixture.plan import Plan, drop_rows
from xmoe.mixture.promise_router import PromiseRouter
from xmoe.mixture.rounds import renew_promises
from xmoe.serve.router.block import Block, Seat
from xmoe.serve.router.fanout import Calls, FanOut, Gathered, Share, finished, share_of, wait_until
from xmoe.serve.router.limits import Limits, count_experts
from xmoe.serve.router.replan import slice_rows

SECOND = "round 2"


class Further:
    """Second rounds: who is asked in them, and their replies."""

    def __init__(
        self, router: Router | PromiseRouter, routing: RoutingConfig, fanout: FanOut
    ) -> None:
        self._router: PromiseRouter | None = None
        if isinstance(router, PromiseRouter):  # plans are on the CPU, from where they are sent
            self._router = deepcopy(router).cpu()
        self._routing = routing
        self._fanout = fanout
        self._open: dict[Block, SharedRound] = {}

    @torch.inference_mode()
    def renew(self, plan: Plan, replies: Mapping[str, ExpertReply]) -> Tensor | None:
        """Promises [B, K_max + 1] of more experts; None for a router that asks once."""
        return None if self._router is None else renew_promises(self._router, plan, replies)

    async def ask(self, seat: Seat, first_round: float) -> Gathered | None:
        """The replies of both rounds, None where the first was enough.

        Called when all that it asked in the first round have answered.
        """
        renewed = seat.block.renewed(seat.first, seat.last)
        if renewed is None:
            return None
        counts = self._count(renewed, seat.block.plan.k[seat.first : seat.last], seat.limits)
        if counts is None:
            return None
        plan = slice_rows(seat.block.plan, seat.first, seat.last)
        if not self._has_time(plan, self.extend(plan, counts), first_round, seat.deadline):
            return None
        if seat.block not in self._open:
            self._open[seat.block] = SharedRound(seat.block, self, self._fanout)
        further = await self._open[seat.block].join(seat, counts, first_round)
        if further is None:
            return None
        replies = share_of(seat.calls, seat.first, seat.last)
        return self._add(Gathered(plan.weights > 0, plan, replies), *further)

    async def go_on(
        self, share: Share, gathered: Gathered, limits: Limits, first_round: float
    ) -> Gathered:
        """The same for a request that goes on alone."""
        renewed = self.renew(gathered.plan, gathered.replies)
        if renewed is None:
            return gathered
        counts = self._count(renewed, gathered.plan.k, limits)
        if counts is None:
            return gathered
        lost = gathered.wanted & ~gathered.combine().answered
        plan = self.extend(gathered.plan, counts, lost)
        if not self._has_time(gathered.plan, plan, first_round, share.deadline):
            return gathered
        others = drop_rows(plan, gathered.plan.weights > 0)
        calls = self._fanout.start(others, share.inputs, share.deadline, traced_as=SECOND)
        await wait_until(calls.values(), share.deadline)
        return self._add(gathered, plan, finished(calls))

    def extend(self, plan: Plan, counts: Tensor, lost: Tensor | None = None) -> Plan:
        """The plan with ``counts`` [n] experts in rows where that is more.

        Experts that are shut out or ``lost`` [n, E] are passed over.
        """
        shut_out = self._fanout.shut_out()
        gone = torch.tensor([name in shut_out for name in plan.expert_names])
        gone = gone if lost is None else gone | lost
        grown = plan.preference.without(gone & ~(plan.weights > 0)).choose(counts)
        weights = torch.where((counts > plan.k).unsqueeze(1), grown, plan.weights)
        return replace(plan, weights=weights)

    def close(self, block: Block) -> None:
        """Close a block's round to newcomers; later requests start another."""
        self._open.pop(block, None)

    def _count(self, renewed: Tensor, k: Tensor, limits: Limits) -> Tensor | None:
        """How many experts [n] to ask in all; None where none is more than ``k`` [n]."""
        counts = count_experts(renewed, [limits] * len(k), self._routing)
        return torch.maximum(counts, k) if bool((counts > k).any()) else None

    def _has_time(self, plan: Plan, further: Plan, first_round: float, deadline: float) -> bool:
        """Whether the first round's time lasts and more experts fit the deadline."""
        now, costs_ms = time.monotonic(), self._routing.costs_ms
        rows = ((further.weights > 0) & ~(plan.weights > 0)).sum(0).tolist()
        needed_ms = max((n * ms for n, ms in zip(rows, costs_ms, strict=False)), default=0.0)
        return any(rows) and now < first_round and now + needed_ms / 1000.0 < deadline

    def _add(self, gathered: Gathered, plan: Plan, replies: Mapping[str, ExpertReply]) -> Gathered:
        wanted = gathered.wanted | (plan.weights > 0)
        return Gathered(wanted, plan, merge_replies(gathered.replies, replies))


class SharedRound:
    """One further call per expert for all requests of a block that join before it starts.

    It waits for the block's other calls, whose requests may want to join, but no longer than the
    first to join has waited already.
    """

    def __init__(self, block: Block, further: Further, fanout: FanOut) -> None:
        self.begun = False
        self._block, self._further, self._fanout = block, further, fanout
        self._counts = block.plan.k
        self._deadline = 0.0
        self._plan = block.plan
        self._calls: Calls = {}
        self._beginning: asyncio.Task[None] | None = None

    async def join(
        self, seat: Seat, counts: Tensor, first_round: float
    ) -> tuple[Plan, dict[str, ExpertReply]] | None:
        """The plan and replies of a request whose rows ask ``counts`` [n] in all.

        None where this round had not started when the request's first one ended.
        """
        rows = slice(seat.first, seat.last)
        self._counts[rows] = counts
        self._deadline = max(self._deadline, seat.deadline)
        if self._beginning is None:
            self._beginning = asyncio.create_task(self._begin(first_round))
        await asyncio.wait([self._beginning], timeout=max(0.0, first_round - time.monotonic()))
        if not self.begun:
            self._counts[rows] = seat.block.plan.k[rows]
            return None
        self._beginning.result()
        plan = slice_rows(self._plan, seat.first, seat.last)
        asked = plan.weights.any(0).tolist()
        names = {name for name, any_row in zip(plan.expert_names, asked, strict=True) if any_row}
        calls = {name: call for name, call in self._calls.items() if name in names}
        await wait_until(calls.values(), seat.deadline)
        return plan, share_of(calls, seat.first, seat.last)

    async def _begin(self, first_round: float) -> None:
        now, block = time.monotonic(), self._block
        await wait_until(block.calls.values(), min(first_round, now + (now - block.begun)))
        await asyncio.sleep(0)  # let requests join whose calls have just ended
        self.begun = True
        self._further.close(block)
        self._plan = self._further.extend(block.plan, self._counts)
        others = drop_rows(self._plan, block.plan.weights > 0)
        self._calls = self._fanout.start(others, block.inputs, self._deadline, traced_as=SECOND)
