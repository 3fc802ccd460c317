"""Service times, who is asked, and replicas -> latency and load of a service, by simulation.

The model is the service itself in few words (docs/serving.md): a router replica plans what waits as
one block while the next gathers; each expert gets one stacked call per block, in the first round
and in the further one; a request goes on when its own experts have answered. A replica does one
thing at a time; where ``cores`` are shared, whatever runs takes turns on them, a slice each, as the
kernel has it. Waiting that costs no processor time passes on the clock alone. Built on SimPy's
processes (Matloff, Introduction to Discrete-Event Simulation and the SimPy Language, 2008).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import simpy

from xmoe.base.config import Frozen

Steps = Generator[simpy.Event, Any, None]
ROUTER = "router"
PROXY = "proxy"
FIRST_TO_GO = 0.2  # share of the requests that fill the queues before counting starts
SLICE_MS = 4.0


class Asked(Frozen):
    """The experts that one recording asks, in both rounds."""

    first: tuple[str, ...] = ()
    further: tuple[str, ...] = ()


class Times(Frozen):
    """Processor time in ms: per recording, per stacked call, per segment; and what only waits.

    A router works ``request_ms`` on the way to an answer, half of it before the plan, and
    ``aside_ms`` once the answer is sent. Of a call it pays ``call_ms``, the expert ``reply_ms``.
    Every recording waits ``delay_ms`` at no processor's cost. No two pieces of work take the same
    time: ``spread`` is their deviation over their mean. A call takes up to ``max_rows``. A router
    does ``router_threads`` things at a time.
    """

    proxy_ms: float = 0.0
    request_ms: float = 0.0
    aside_ms: float = 0.0
    plan_ms: float
    call_ms: float = 0.0
    reply_ms: float = 0.0
    expert_ms: Mapping[str, float]
    delay_ms: float = 0.0
    spread: float = 0.0
    max_rows: int = 32
    router_threads: int = 1


class Fleet(Frozen):
    """How many replicas of each, over so many cores; None where each replica has one of its own.

    ``others`` is how many of the cores are busy with what is no part of the service.
    """

    routers: int
    experts: Mapping[str, int]
    proxies: int = 1
    cores: int | None = None
    others: float = 0.0


class Demand(Frozen):
    """A rate (Poisson arrivals), or clients that send again once answered."""

    requests: int = 8000
    per_second: float | None = None
    clients: int | None = None


class Outcome(Frozen):
    """Result: latencies in ms, answers a second, the share of time that replicas work.

    ``wait_ms`` is how long a recording waits for each deployment in all, on average.
    """

    p50_ms: float
    p99_ms: float
    per_second: float
    cpu_ms: float
    busy: dict[str, float]
    wait_ms: dict[str, float]
    rows: float


class Pool:
    """Replicas of one deployment; of two drawn by chance the one with less in hand is asked.

    Serve does the same (Mitzenmacher 2001, The Power of Two Choices).
    """

    def __init__(
        self,
        env: simpy.Environment,
        size: int,
        cores: simpy.Resource | None,
        rng: np.random.Generator,
        *,
        spread: float = 0.0,
        threads: int = 1,
    ) -> None:
        self._env, self._cores, self._rng, self._spread = env, cores, rng, spread
        self.replicas = [simpy.Resource(env, threads) for _ in range(size)]
        self.in_hand = [0] * size
        self.busy_ms = self.waited_ms = 0.0

    def pick(self) -> int:
        """Choose a replica and add to its load; the caller lessens ``in_hand`` afterwards."""
        two = self._rng.integers(len(self.replicas), size=2)
        index = int(min(two, key=lambda one: self.in_hand[one]))
        self.in_hand[index] += 1
        return index

    def serve(self, ms: float) -> Steps:
        """Pick a replica and have it work for so long."""
        index = self.pick()
        yield from self.work(self.replicas[index], ms)
        self.in_hand[index] -= 1

    def work(self, replica: simpy.Resource, ms: float | Callable[[], float]) -> Steps:
        """Wait for the replica, then have it work so long; a function is asked when it begins."""
        began = self._env.now
        with replica.request() as turn:
            yield turn
            self.waited_ms += self._env.now - began
            needed_ms = self._vary(ms() if callable(ms) else ms)
            self.busy_ms += needed_ms
            yield from take_turns(self._env, self._cores, needed_ms)

    def _vary(self, ms: float) -> float:
        """A time from the gamma distribution around this one."""
        if not self._spread:
            return ms
        variance = self._spread**2
        return ms * variance * float(self._rng.standard_gamma(1.0 / variance))


def take_turns(env: simpy.Environment, cores: simpy.Resource | None, ms: float) -> Steps:
    """Work so long, a slice at a time on any of the cores where they are shared."""
    if cores is None:
        yield env.timeout(ms)
        return
    while ms > 0:
        with cores.request() as core:
            yield core
            yield env.timeout(min(ms, SLICE_MS))
        ms -= SLICE_MS


class Request:
    """One recording on its way: when it came, whom it asks, and when it was planned."""

    def __init__(self, env: simpy.Environment, asked: Asked) -> None:
        self.came = env.now
        self.asked = asked
        self.planned: simpy.Event = env.event()
        self.calls: dict[str, simpy.Event] = {}
        self.block: Block | None = None


class Block:
    """What one router replica planned together, and the second round that its requests share."""

    def __init__(self, replica: simpy.Resource, requests: Sequence[Request]) -> None:
        self.replica = replica
        self.requests = requests
        self.further: dict[str, simpy.Event] | None = None


class Service:
    """The whole service in simulated time."""

    def __init__(
        self,
        times: Times,
        fleet: Fleet,
        rows: Sequence[Asked],
        demand: Demand,
        rng: np.random.Generator,
    ) -> None:
        self.env = simpy.Environment()
        self.times, self.fleet, self.demand = times, fleet, demand
        self._rows, self._rng = rows, rng
        self._cores = simpy.Resource(self.env, fleet.cores) if fleet.cores is not None else None
        self.pools = {
            name: Pool(
                self.env,
                size,
                self._cores,
                rng,
                spread=times.spread,
                threads=times.router_threads if name == ROUTER else 1,
            )
            for name, size in {PROXY: fleet.proxies, ROUTER: fleet.routers, **fleet.experts}.items()
        }
        self._waiting: list[list[Request]] = [[] for _ in range(fleet.routers)]
        self._planning = [False] * fleet.routers
        self.answered: list[tuple[float, float]] = []  # when, and after how long
        self.blocks: list[int] = []

    def run(self) -> None:
        """Simulate until the demand is answered."""
        if self.fleet.others:
            self.env.process(self._others())
        if self.demand.clients is not None:
            for _ in range(self.demand.clients):
                self.env.process(self._client())
        else:
            self.env.process(self._arrivals())
        self.env.run()

    def _arrivals(self) -> Steps:
        assert self.demand.per_second is not None
        gaps = self._rng.exponential(1000.0 / self.demand.per_second, self.demand.requests)
        for gap in gaps:
            yield self.env.timeout(float(gap))
            self.env.process(self._request())

    def _client(self) -> Steps:
        while len(self.answered) < self.demand.requests:
            yield self.env.process(self._request())

    def _others(self) -> Steps:
        while len(self.answered) < self.demand.requests:
            yield self.env.timeout(float(self._rng.exponential(SLICE_MS / self.fleet.others)))
            self.env.process(take_turns(self.env, self._cores, SLICE_MS))

    def _request(self) -> Steps:
        """One recording: proxy, block, both rounds, the way back."""
        asked = self._rows[int(self._rng.integers(len(self._rows)))]
        request = Request(self.env, asked)
        router = self.pools[ROUTER]
        yield self.env.timeout(self.times.delay_ms)
        yield from self.pools[PROXY].serve(self.times.proxy_ms)
        index = router.pick()
        yield from router.work(router.replicas[index], self.times.request_ms / 2)
        self._waiting[index].append(request)
        if not self._planning[index]:
            self._planning[index] = True
            self.env.process(self._plan(index))
        yield request.planned
        block = request.block
        assert block is not None
        if asked.first:
            yield self.env.all_of([request.calls[name] for name in asked.first])
        if asked.further:
            if block.further is None:
                block.further = self._call(block, "further")
            yield self.env.all_of([block.further[name] for name in asked.further])
        yield from router.work(block.replica, self.times.request_ms / 2)
        self.answered.append((self.env.now, self.env.now - request.came))
        self.env.process(self._end(block.replica, index))

    def _end(self, replica: simpy.Resource, index: int) -> Steps:
        yield from self.pools[ROUTER].work(replica, self.times.aside_ms)
        self.pools[ROUTER].in_hand[index] -= 1

    def _plan(self, index: int) -> Steps:
        """Plan block after block while anything waits for this router replica."""
        replica = self.pools[ROUTER].replicas[index]
        while self._waiting[index]:
            taken: list[Request] = []
            yield from self.pools[ROUTER].work(replica, partial(self._take, index, taken))
            block = Block(replica, taken)
            calls = self._call(block, "first")
            for request in taken:
                request.block, request.calls = block, calls
                request.planned.succeed()
        self._planning[index] = False

    def _take(self, index: int, taken: list[Request]) -> float:
        """Move what waits into a block, as much as it may hold; return what planning it takes."""
        most, waiting = self.times.max_rows, self._waiting[index]
        taken += waiting[:most]
        del waiting[:most]
        self.blocks.append(len(taken))
        return len(taken) * self.times.plan_ms

    def _call(self, block: Block, which: str) -> dict[str, simpy.Event]:
        """Start one stacked call to each expert that the block asks in this round."""
        counts = Counter(name for one in block.requests for name in getattr(one.asked, which))
        return {
            name: self.env.process(self._ask(block.replica, name, count))
            for name, count in counts.items()
        }

    def _ask(self, replica: simpy.Resource, name: str, segments: int) -> Steps:
        yield from self.pools[ROUTER].work(replica, self.times.call_ms)
        yield from self.pools[name].serve(
            self.times.reply_ms + segments * self.times.expert_ms[name]
        )


def simulate(
    times: Times, fleet: Fleet, rows: Sequence[Asked], demand: Demand, *, seed: int = 0
) -> Outcome:
    """How such a service answers such a demand; the same seed gives the same figures."""
    service = Service(times, fleet, rows, demand, np.random.default_rng(seed))
    service.run()
    first = int(FIRST_TO_GO * len(service.answered))
    moments, latencies = np.array(service.answered[first:]).T
    p50, p99 = np.percentile(latencies, [50, 99])
    lasted_ms = service.env.now
    busy_ms = sum(pool.busy_ms for pool in service.pools.values())
    return Outcome(
        p50_ms=float(p50),
        p99_ms=float(p99),
        per_second=1000.0 * (len(moments) - 1) / max(float(moments[-1] - moments[0]), 1e-9),
        cpu_ms=busy_ms / len(service.answered),
        busy={
            name: pool.busy_ms / (lasted_ms * len(pool.replicas))
            for name, pool in service.pools.items()
        },
        wait_ms={
            name: pool.waited_ms / len(service.answered) for name, pool in service.pools.items()
        },
        rows=float(np.mean(service.blocks)),
    )
