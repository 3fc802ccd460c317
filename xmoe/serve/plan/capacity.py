"""A run, a rate and a latency -> replicas of router and experts, nodes, cost; found by simulation.

Service times are those that the run recorded (``xmoe calibrate`` renews them on this machine). Who
is asked is drawn from the answers to its test clips, so that experts that are asked together are
busy together. The other costs of a request were measured once (benchmarks/plan.py).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from xmoe.base.errors import ConfigError
from xmoe.run.folder import ROUTER as ROUTER_PART
from xmoe.run.folder import RunFile, RunFolder
from xmoe.serve.experts.local import callable_experts
from xmoe.serve.plan.simulate import PROXY, ROUTER, Asked, Demand, Fleet, Outcome, Times, simulate

# Processor time of one request beside stem and experts, in ms: benchmarks/plan.py, docs/scale.md.
PROXY_MS = 1.5
REQUEST_MS = 3.0
CALL_MS = 3.0
LINK_MS = 1.0
# A deployment is planned to work this share of the time; a node to be this full.
UTILISATION = 0.6
NODE_FULL = 0.8
# Beyond this rate one cell of several alike is simulated: routers share experts within a cell.
CELL_PER_SECOND = 2000.0
MOST_TRIES = 24
# Below this load a request waits only for its own calls, so more replicas change nothing.
IDLE = 0.1
GROW = 1.2


@dataclass(frozen=True)
class Target:
    """The goal, and what a node has and costs (``price`` in money an hour)."""

    per_second: float
    p99_ms: float
    node_cpus: float = 4.0
    price: float | None = None


@dataclass(frozen=True)
class Capacity:
    """A service that meets the target, and the simulation of one of its cells."""

    fleet: Fleet
    cells: int
    nodes: int
    outcome: Outcome
    asked_per_second: dict[str, float]
    reached: bool
    cost_per_million: float | None

    def replicas(self) -> dict[str, int]:
        """Replicas of each deployment over all cells."""
        own = {PROXY: self.fleet.proxies, ROUTER: self.fleet.routers, **self.fleet.experts}
        return {name: self.cells * size for name, size in own.items()}


def read_times(folder: RunFolder) -> Times:
    """The service times of a run; ConfigError where it has none."""
    config = folder.read_config()
    costs = config.routing.costs_ms
    if not costs:
        raise ConfigError(
            "the run does not say what its experts cost",
            where=str(folder.path),
            mend="a run fitted in closed form does: xmoe train, or xmoe calibrate RUN",
        )
    names = callable_experts(config)
    return Times(
        proxy_ms=PROXY_MS,
        request_ms=REQUEST_MS,
        plan_ms=config.routing.glance_ms,
        call_ms=CALL_MS,
        link_ms=LINK_MS,
        expert_ms={
            name: ms
            for name, ms in zip(config.model.expert_names, costs, strict=True)
            if name in names
        },
    )


def read_asked(folder: RunFolder) -> list[Asked]:
    """Whom each test clip asked, in the first round and in the second."""
    import pyarrow.parquet as pq

    config = folder.read_config()
    tensors = folder.load_tensors(ROUTER_PART)
    first_most = int(tensors.get("first_most", torch.tensor(config.model.k_max)))
    path = folder.file(RunFile.TRACES)
    if not path.is_file():
        raise ConfigError(
            "the run has no answers to test clips", where=str(path), mend="xmoe eval RUN"
        )
    rows = pq.read_table(path, columns=["experts"]).column("experts").to_pylist()
    named = [[use["name"] for use in row] for row in rows]
    return [Asked(first=tuple(n[:first_most]), further=tuple(n[first_most:])) for n in named]


def find_capacity(times: Times, rows: Sequence[Asked], target: Target) -> Capacity:
    """The smallest service found that keeps the latency at the rate.

    Starts where each deployment works its share of the time, then grows the one whose calls wait
    longest, until the target is met or until nothing waits and it is still missed.
    """
    cells = max(1, math.ceil(target.per_second / CELL_PER_SECOND))
    rate = target.per_second / cells
    demand = Demand(per_second=rate, requests=int(min(20_000, max(4_000, 5 * rate))))
    asked = Counter(name for row in rows for name in (*row.first, *row.further))
    share = {name: asked[name] / len(rows) for name in times.expert_ms}
    fleet = first_guess(times, share, rate)
    for _ in range(MOST_TRIES):
        outcome = simulate(times, fleet, rows, demand)
        if outcome.p99_ms <= target.p99_ms:
            break
        grown = grow(fleet, outcome)
        if grown == fleet:
            break
        fleet = grown
    nodes = count_nodes(fleet, outcome, target.node_cpus, cells)
    cost = None
    if target.price is not None:
        cost = nodes * target.price / (3600.0 * target.per_second) * 1e6
    return Capacity(
        fleet=fleet,
        cells=cells,
        nodes=nodes,
        outcome=outcome,
        asked_per_second={name: part * target.per_second for name, part in share.items()},
        reached=outcome.p99_ms <= target.p99_ms,
        cost_per_million=cost,
    )


def first_guess(times: Times, share: Mapping[str, float], rate: float) -> Fleet:
    """Replicas that work their share of the time if every call carries one segment."""

    def count(ms: float) -> int:
        return max(1, math.ceil(rate * ms / 1000.0 / UTILISATION))

    calls = sum(share.values())
    return Fleet(
        proxies=count(times.proxy_ms),
        routers=count(times.plan_ms + times.request_ms + calls * times.call_ms / 2),
        experts={
            name: count(part * (times.expert_ms[name] + times.call_ms / 2))
            for name, part in share.items()
        },
    )


def grow(fleet: Fleet, outcome: Outcome) -> Fleet:
    """The fleet with more of the deployment that is waited for longest."""
    name = max(outcome.wait_ms, key=lambda one: outcome.wait_ms[one])
    if outcome.busy[name] < IDLE:
        return fleet
    values = fleet.model_dump()
    if name in (PROXY, ROUTER):
        key = "proxies" if name == PROXY else "routers"
        values[key] = math.ceil(values[key] * GROW + 0.5)
    else:
        values["experts"][name] = math.ceil(values["experts"][name] * GROW + 0.5)
    return Fleet.model_validate(values)


def count_nodes(fleet: Fleet, outcome: Outcome, node_cpus: float, cells: int) -> int:
    """How many nodes have room for the work of the replicas."""
    sizes = {PROXY: fleet.proxies, ROUTER: fleet.routers, **fleet.experts}
    cores = cells * sum(size * outcome.busy[name] for name, size in sizes.items())
    return max(1, math.ceil(cores / (node_cpus * NODE_FULL)))


def to_settings(found: Capacity) -> dict[str, Any]:
    """The settings of the service, for the chart and ``serve deploy``.

    ``num_cpus`` is a replica's work, so that Ray puts no more on a node than it can do.
    """

    def cpus(name: str) -> float:
        return round(min(1.0, max(0.05, found.outcome.busy[name] / NODE_FULL)), 2)

    replicas = found.replicas()
    return {
        "router": {"replicas": replicas[ROUTER], "num_cpus": cpus(ROUTER)},
        "experts": {
            name: {
                "min_replicas": replicas[name],
                "max_replicas": 2 * replicas[name],
                "num_cpus": cpus(name),
            }
            for name in found.fleet.experts
        },
    }
