"""Experts that are dead, slow, overloaded or not finite: who stands in, and what is said of it."""

import asyncio
import time

import pytest
import torch

from tests.fixtures.mixtures import cnn_specs
from xmoe.mixture.calls import CallFailed
from xmoe.serve.router.fanout import FanOut, Share, TooFewExperts
from xmoe.serve.settings import FaultSettings

RATE_HZ = 8000
NAMES = ("broadband", "low", "transient")


@pytest.fixture(scope="module")
def prepared(in_process, sound):
    """The plan of three clips for one expert each, and what the experts are fed from."""
    specs = torch.cat([in_process.hear(sound(seed=s), RATE_HZ)[0] for s in range(3)])
    return in_process.model.prepare(specs, in_process.config.routing, k=1)


@pytest.fixture
def plan(prepared):
    return prepared[0]


@pytest.fixture
def begin(prepared):
    """The function that starts the calls of the plan and returns its one request's share."""
    plan, inputs = prepared

    def start(fanout, deadline, *, avoid=True):
        used = fanout.avoid_open(plan, inputs) if avoid else plan
        calls = fanout.start(used, inputs, deadline)
        return Share(plan, used, inputs, calls, 0, len(plan.weights), deadline)

    return start


@pytest.fixture
def callers(in_process):
    """Experts that answer, and how often each was called."""
    counts = dict.fromkeys(NAMES, 0)

    async def answer(request, budget_s):
        counts[request.name] += 1
        with torch.inference_mode():
            return in_process.experts[request.name](request)

    return dict.fromkeys(NAMES, answer), counts


def fail_as(kind, times=10**6):
    """An expert that fails ``times`` times and the list of its calls."""
    calls = []

    async def call(request, budget_s):
        calls.append(budget_s)
        if kind == "hang":
            await asyncio.sleep(30)
        if len(calls) <= times:
            raise CallFailed(kind)
        return torch.zeros(len(request.rows), 2)

    return call, calls


def make_fanout(callers, faults):
    return FanOut(callers, faults, cnn_specs(*NAMES))


async def collect(fanout, share):
    """What one request heard as its answer."""
    return (await fanout.collect(share)).combine()


def gather(callers, begin, *, deadline_s=0.5, **faults):
    """Run one block of one request; return what it heard, the fan-out, and the seconds."""
    fanout = make_fanout(callers, FaultSettings(**{"deadline_ms": 1000.0 * deadline_s} | faults))

    async def main():
        return await collect(fanout, begin(fanout, time.monotonic() + deadline_s))

    began = time.monotonic()
    return asyncio.run(main()), fanout, time.monotonic() - began


def chosen(plan):
    """The name of the expert that each clip chose."""
    return [plan.expert_names[int(i)] for i in plan.weights.argmax(1)]


def test_healthy_experts_give_what_one_process_gives(callers, in_process, begin, prepared):
    heard, _, _ = gather(callers[0], begin)
    expected = in_process.model.carry_out(*prepared)
    assert torch.allclose(heard.logits, expected.logits, atol=1e-6)
    assert not heard.missing.any()
    assert max(callers[1].values()) == 1


@pytest.mark.parametrize("kind", ["dead", "other_run", "overloaded", "error", "hang"])
def test_next_ranked_expert_stands_in(plan, callers, kind, begin):
    lost = chosen(plan)[0]
    broken, calls = fail_as(kind)
    heard, fanout, seconds = gather(callers[0] | {lost: broken}, begin)
    rows = torch.tensor([name == lost for name in chosen(plan)])
    assert heard.degraded.tolist() == rows.tolist()
    assert bool((heard.weights.sum(1) > 0.99).all())
    assert float(heard.weights[rows, plan.expert_names.index(lost)].sum()) == 0.0
    assert len(calls) == (2 if kind in ("dead", "other_run") else 1)
    given_up = "cancelled" if kind == "hang" else kind
    assert fanout.tallies[lost].failures == {given_up: 1}
    assert seconds < 0.5


def test_dead_replica_is_tried_once_more(plan, callers, begin):
    lost = chosen(plan)[0]
    broken, calls = fail_as("dead", times=1)
    heard, _, _ = gather(callers[0] | {lost: broken}, begin)
    assert len(calls) == 2
    assert not heard.degraded.any()


def test_logits_that_are_not_finite_never_reach_an_answer(plan, callers, begin):
    lost = chosen(plan)[0]

    async def broken(request, budget_s):
        return torch.full((len(request.rows), 2), float("nan"))

    heard, fanout, _ = gather(callers[0] | {lost: broken}, begin)
    assert bool(torch.isfinite(heard.logits).all())
    assert bool(heard.degraded[0])
    assert fanout.tallies[lost].failures == {"nonfinite": 1}


@pytest.mark.parametrize("shape", [(9, 2), (1, 3), (2,), ()])
def test_logits_of_another_shape_are_a_failure(plan, callers, shape, begin):
    lost = chosen(plan)[0]

    async def broken(request, budget_s):
        return torch.zeros(shape)

    heard, fanout, _ = gather(callers[0] | {lost: broken}, begin)
    assert bool(heard.degraded[0])
    assert fanout.tallies[lost].failures == {"error": 1}


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ValueError("bad weights"), "error"),
        (KeyError("x"), "error"),
        (MemoryError(), "error"),
        (TimeoutError(), "timeout"),
        (asyncio.CancelledError(), "dead"),
    ],
)
def test_whatever_an_expert_raises_counts_and_shuts_it_out(plan, callers, error, kind, begin):
    lost = chosen(plan)[0]

    async def broken(request, budget_s):
        raise error

    heard, fanout, _ = gather(callers[0] | {lost: broken}, begin, breaker_failures=1)
    assert bool(heard.degraded[0])
    assert fanout.tallies[lost].failures == {kind: 1}
    assert fanout.tallies[lost].ongoing == 0
    assert fanout.shut_out() == {lost}


def test_reply_that_is_no_tensor_is_a_failure(plan, callers, begin):
    lost = chosen(plan)[0]

    async def broken(request, budget_s):
        return None

    heard, fanout, _ = gather(callers[0] | {lost: broken}, begin)
    assert bool(heard.degraded[0])
    assert fanout.tallies[lost].failures == {"error": 1}


def test_with_every_expert_failing_half_of_them_are_still_asked(begin):
    broken = {name: fail_as("error")[0] for name in NAMES}
    fanout = make_fanout(broken, FaultSettings(breaker_failures=1, min_gate_mass=0.0))

    async def main():
        for _ in range(5):
            await collect(fanout, begin(fanout, time.monotonic() + 1.0))

    asyncio.run(main())
    assert len(fanout.shut_out()) == 1


def test_without_any_expert_the_request_is_refused(begin):
    broken = {name: fail_as("error")[0] for name in NAMES}
    with pytest.raises(TooFewExperts):
        gather(broken, begin)


def test_without_any_expert_the_stem_answers_where_that_is_allowed(plan, begin):
    broken = {name: fail_as("error")[0] for name in NAMES}
    heard, _, _ = gather(broken, begin, min_gate_mass=0.0)
    assert torch.allclose(heard.logits, plan.stem_logits)
    assert bool(heard.degraded.all())


def test_all_experts_hanging_costs_no_more_than_the_deadline(begin):
    broken = {name: fail_as("hang")[0] for name in NAMES}
    began = time.monotonic()
    with pytest.raises(TooFewExperts):
        gather(broken, begin, deadline_s=0.3)
    assert time.monotonic() - began < 0.8


def test_shut_out_expert_is_not_asked_and_still_reported(plan, callers, begin):
    lost = chosen(plan)[0]
    broken, calls = fail_as("error")
    fanout = make_fanout(callers[0] | {lost: broken}, FaultSettings(breaker_failures=2))

    async def main():
        for _ in range(4):
            heard = await collect(fanout, begin(fanout, time.monotonic() + 1.0))
            assert bool(heard.degraded[0])

    asyncio.run(main())
    assert len(calls) == 2
    assert fanout.shut_out() == {lost}


def test_hasty_requests_do_not_shut_an_expert_out(plan, callers, begin):
    lost = chosen(plan)[0]
    slow, _ = fail_as("hang")
    fanout = make_fanout(
        callers[0] | {lost: slow}, FaultSettings(breaker_failures=1, min_gate_mass=0.0)
    )

    async def main():
        await collect(fanout, begin(fanout, time.monotonic() + 0.05, avoid=False))
        await asyncio.sleep(0.05)

    asyncio.run(main())
    assert fanout.tallies[lost].failures == {"timeout": 1}
    assert fanout.shut_out() == set()


def test_expert_that_is_back_is_found_by_a_copy_for_which_nobody_waits(plan, callers, begin):
    lost = chosen(plan)[0]
    state = {"hangs": True}
    calls = []

    async def comes_back(request, budget_s):
        calls.append(state["hangs"])
        if state["hangs"]:
            await asyncio.sleep(30)
        return await callers[0][lost](request, budget_s)

    settings = FaultSettings(breaker_failures=1, breaker_open_s=0.1, deadline_ms=200.0)
    fanout = make_fanout(callers[0] | {lost: comes_back}, settings)

    async def ask():
        began = time.monotonic()
        heard = await collect(fanout, begin(fanout, began + 0.2))
        return bool(heard.degraded[0]), time.monotonic() - began

    async def main():
        first = await ask()
        await asyncio.sleep(0.35)
        probing = await ask()
        assert len(calls) == 2
        state["hangs"] = False
        await asyncio.sleep(0.35)
        finding, after = await ask(), None
        await asyncio.sleep(0.05)
        after = await ask()
        return first, probing, finding, after

    first, probing, finding, after = asyncio.run(main())
    assert [degraded for degraded, _ in (first, probing, finding, after)] == [True] * 3 + [False]
    assert first[1] > 0.1
    assert probing[1] < 0.1
    assert fanout.shut_out() == set()


def test_readiness_asks_even_who_is_shut_out(plan, callers, prepared):
    lost = chosen(plan)[0]
    fanout = make_fanout(callers[0], FaultSettings(breaker_failures=1))
    for _ in range(2):
        fanout.breakers[lost].fail()

    async def main():
        deadline = time.monotonic() + 1.0
        refused = fanout.start(*prepared, deadline)[lost]
        with pytest.raises(CallFailed, match="shut_out"):
            await refused
        await fanout.start(*prepared, deadline, even_shut_out=True)[lost]

    asyncio.run(main())
    assert fanout.shut_out() == set()
