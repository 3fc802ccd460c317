"""Service times, who is asked, and replicas -> latency and load of a service, by simulation.

The model is the service itself in short (docs/serving.md): a router replica plans what waits as one
block while the next gathers; each expert gets one stacked call per block and round; a request goes
on when its own experts have answered. A replica does one thing at a time, and any work needs one of
``cores``. Built on SimPy's processes (Matloff, Introduction to Discrete-Event Simulation and the
SimPy Language, 2008).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from typing import Any

import numpy as np
import simpy

from xmoe.base.config import Frozen

Steps = Generator[simpy.Event, Any, None]
ROUTER = "router"
PROXY = "proxy"
FIRST_TO_GO = 0.2  # share of the requests that fill the queues before counting starts


class Asked(Frozen):
    """The experts that one recording asks, in both rounds."""

    first: tuple[str, ...] = ()
    further: tuple[str, ...] = ()


class Times(Frozen):
    """Processor time in ms: per recording in proxy and router, per stacked call, per segment.

    Router and expert pay half of ``call_ms`` each; ``link_ms`` is what a call takes beyond all
    processor time.
    """

    proxy_ms: float
    request_ms: float
    plan_ms: float
    call_ms: float
    link_ms: float
    expert_ms: Mapping[str, float]


class Fleet(Frozen):
    """Replicas of each deployment and cores; None where each replica has a core of its own."""

    routers: int
    experts: Mapping[str, int]
    proxies: int = 1
    cores: int | None = None
    max_rows: int = 32


class Demand(Frozen):
    """A rate (Poisson arrivals), or clients that send again once answered."""

    requests: int = 8000
    per_second: float | None = None
    clients: int | None = None


class Outcome(Frozen):
    """Result: latencies in ms, answers a second, the share of time that replicas work."""

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
    ) -> None:
        self._env, self._cores, self._rng = env, cores, rng
        self.replicas = [simpy.Resource(env) for _ in range(size)]
        self.in_hand = [0] * size
        self.busy_ms = 0.0
        self.waits_ms: list[float] = []

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

    def work(self, replica: simpy.Resource, ms: float) -> Steps:
        """Wait for the replica and for a core, then hold both for so long."""
        began = self._env.now
        with replica.request() as turn:
            yield turn
            if self._cores is None:
                self.waits_ms.append(self._env.now - began)
                yield self._env.timeout(ms)
            else:
                with self._cores.request() as core:
                    yield core
                    self.waits_ms.append(self._env.now - began)
                    yield self._env.timeout(ms)
        self.busy_ms += ms


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
        cores = simpy.Resource(self.env, fleet.cores) if fleet.cores is not None else None
        self.pools = {
            name: Pool(self.env, size, cores, rng)
            for name, size in {
                PROXY: fleet.proxies,
                ROUTER: fleet.routers,
                **fleet.experts,
            }.items()
        }
        self._waiting: list[list[Request]] = [[] for _ in range(fleet.routers)]
        self._planning = [False] * fleet.routers
        self.answered: list[tuple[float, float]] = []  # when, and after how long
        self.blocks: list[int] = []

    def run(self) -> None:
        """Simulate until the demand is answered."""
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

    def _request(self) -> Steps:
        """One recording: proxy, block, both rounds, the way back."""
        asked = self._rows[int(self._rng.integers(len(self._rows)))]
        request = Request(self.env, asked)
        router = self.pools[ROUTER]
        yield from self.pools[PROXY].serve(self.times.proxy_ms)
        index = router.pick()
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
        router.in_hand[index] -= 1
        self.answered.append((self.env.now, self.env.now - request.came))

    def _plan(self, index: int) -> Steps:
        """Plan block after block while anything waits for this router replica."""
        replica = self.pools[ROUTER].replicas[index]
        while self._waiting[index]:
            most = self.fleet.max_rows
            taken, self._waiting[index] = self._waiting[index][:most], self._waiting[index][most:]
            self.blocks.append(len(taken))
            ms = len(taken) * (self.times.plan_ms + self.times.request_ms / 2)
            yield from self.pools[ROUTER].work(replica, ms)
            block = Block(replica, taken)
            calls = self._call(block, "first")
            for request in taken:
                request.block, request.calls = block, calls
                request.planned.succeed()
        self._planning[index] = False

    def _call(self, block: Block, which: str) -> dict[str, simpy.Event]:
        """Start one stacked call to each expert that the block asks in this round."""
        counts = Counter(name for one in block.requests for name in getattr(one.asked, which))
        return {
            name: self.env.process(self._ask(block.replica, name, count))
            for name, count in counts.items()
        }

    def _ask(self, replica: simpy.Resource, name: str, segments: int) -> Steps:
        half_ms = self.times.call_ms / 2
        yield from self.pools[ROUTER].work(replica, half_ms)
        yield self.env.timeout(self.times.link_ms)
        yield from self.pools[name].serve(half_ms + segments * self.times.expert_ms[name])


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
            name: float(np.percentile(pool.waits_ms, 99)) if pool.waits_ms else 0.0
            for name, pool in service.pools.items()
        },
        rows=float(np.mean(service.blocks)),
    )
