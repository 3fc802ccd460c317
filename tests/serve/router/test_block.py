"""Requests of one block: a slice of one answer where all is there, alone where something is not."""

import asyncio

import pytest
import torch

from xmoe.experts.protocol import ExpertReply
from xmoe.mixture.calls import call_experts
from xmoe.serve.router.block import Block, Seat
from xmoe.serve.router.limits import Limits

RATE_HZ = 8000


@pytest.fixture
def prepared(in_process, sound):
    specs = torch.cat([in_process.hear(sound(seed=s), RATE_HZ)[0] for s in range(4)])
    return in_process.model.prepare(specs, in_process.config.routing)


@pytest.fixture
def plan(prepared):
    return prepared[0]


def hear(prepared, in_process, script, *, silent=(), broken=()):
    """Run ``script(block)`` once every expert has answered that is not ``silent``."""
    plan, inputs = prepared
    requests = in_process.model.requests(plan, inputs)
    replies = call_experts(in_process.experts, requests)

    async def call(name):
        if name in silent:
            await asyncio.sleep(60)
        reply = replies[name]
        return ExpertReply(reply.rows, reply.logits * (float("nan") if name in broken else 1.0))

    async def main():
        calls = {name: asyncio.create_task(call(name)) for name in replies}
        await asyncio.sleep(0.01)
        try:
            read = in_process.read_combined
            return script(Block(plan, plan, inputs, calls, read=read, renew=lambda *_: None))
        finally:
            for task in calls.values():
                task.cancel()

    return asyncio.run(main())


def test_rows_are_those_of_the_whole_batch(plan, in_process, prepared):
    expected = in_process.read_combined(plan, in_process.model.carry_out(*prepared))
    for first, last in ((0, 1), (1, 3), (0, 4)):
        got = hear(prepared, in_process, lambda block: block.answers(first, last))  # noqa: B023
        assert torch.equal(got.logits, expected.logits[first:last])
        assert torch.equal(got.weights, expected.weights[first:last])
        assert not got.missing.any()


def test_row_with_a_silent_or_broken_expert_goes_on_alone(plan, in_process, prepared):
    name = next(n for i, n in enumerate(plan.expert_names) if bool((plan.weights[:, i] > 0).any()))
    asked = (plan.weights[:, plan.expert_names.index(name)] > 0).tolist()
    for lost in ({"silent": (name,)}, {"broken": (name,)}):
        got = hear(
            prepared, in_process, lambda b: [b.answers(r, r + 1) is None for r in range(4)], **lost
        )
        assert got == asked


def test_seat_waits_for_its_own_experts_only(plan, in_process, prepared):
    def script(block):
        return [set(Seat(block, row, row + 1, Limits(), 0.0).calls) for row in range(4)]

    expected = [
        {n for i, n in enumerate(plan.expert_names) if bool(plan.weights[row, i] > 0)}
        for row in range(4)
    ]
    assert hear(prepared, in_process, script) == expected


def test_share_holds_the_rows_of_the_seat(plan, in_process, prepared):
    share = hear(prepared, in_process, lambda block: Seat(block, 1, 3, Limits(), 5.0).share())
    assert (share.first, share.last, share.deadline) == (1, 3, 5.0)
    assert torch.equal(share.plan.weights, plan.weights[1:3])
    assert share.wanted is share.plan


def test_one_combine_serves_all_rows(in_process, prepared):
    reads = []

    def script(block):
        block._read = lambda *given: reads.append(given) or in_process.read_combined(*given)
        for row in range(4):
            block.answers(row, row + 1)
        return len(reads)

    assert hear(prepared, in_process, script) == 1
