"""A run, a rate and a latency -> replicas of router and experts, nodes, cost; found by simulation.

Service times are those that the run recorded (``xmoe calibrate`` renews them on this machine), and
who is asked is drawn from the answers to its test clips, so that experts that are asked together
are busy together. What a request costs beside that is in ``MEASURED``.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from xmoe.base.config import Frozen
from xmoe.base.errors import ConfigError
from xmoe.run.folder import ROUTER as ROUTER_PART
from xmoe.run.folder import RunFile, RunFolder
from xmoe.serve.plan.simulate import PROXY, ROUTER, Asked, Demand, Fleet, Outcome, Times, simulate
from xmoe.serve.router.router import SAMPLE_BYTES, bound_rows
from xmoe.serve.settings import ServeSettings

# A deployment is planned to work this share of the time; a node to be this full.
UTILISATION = 0.6
NODE_FULL = 0.8
# Beyond this rate one cell of several alike is simulated: routers share experts within a cell.
CELL_PER_SECOND = 2000.0
MOST_TRIES = 24
# Below this load a request waits only for its own calls, so more replicas change nothing.
IDLE = 0.1
GROW = 1.2


class Overheads(Frozen):
    """What a recording of so many MB costs beside stem and experts; named as in ``Times``.

    ``row_ms`` is what each segment costs an expert beyond what the run says.
    """

    mb: float = 0.0
    proxy_ms: float = 0.0
    request_ms: float = 0.0
    aside_ms: float = 0.0
    call_ms: float = 0.0
    reply_ms: float = 0.0
    row_ms: float = 0.0
    delay_ms: float = 0.0
    spread: float = 0.0

    def add_to(self, times: Times) -> Times:
        """The times of a run with these in their places."""
        experts = {name: max(0.0, ms + self.row_ms) for name, ms in times.expert_ms.items()}
        own = self.model_dump(exclude={"mb", "row_ms"})
        own = {name: max(0.0, ms) for name, ms in own.items()}  # a line may leave its field
        return times.model_copy(update=own | {"expert_ms": experts})


# As `python benchmarks/plan.py RUN CLIP...` prints them, for spoken digits and for ESC-10.
MEASURED = (
    Overheads(mb=0.013, proxy_ms=0.5, call_ms=7.2, reply_ms=2.9, row_ms=0.9, spread=0.39),
    Overheads(
        mb=0.442,
        proxy_ms=1.7,
        request_ms=21.6,
        aside_ms=3.8,
        call_ms=6.6,
        reply_ms=3.4,
        row_ms=7.1,
        spread=0.7,
    ),
)


def overheads_of(mb: float) -> Overheads:
    """What a recording of so many MB costs, on the line through the two ``MEASURED``.

    Work grows beyond them; how much it varies does not.
    """
    small, large = MEASURED
    along = max(0.0, (mb - small.mb) / (large.mb - small.mb))
    ends = zip(small.model_dump().items(), large.model_dump().values(), strict=True)
    found = {name: one + along * (other - one) for (name, one), other in ends}
    return Overheads(**found | {"spread": min(found["spread"], large.spread)})


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


def read_times(folder: RunFolder, overheads: Overheads | None = None) -> Times:
    """The service times of a run; ConfigError where it has none.

    With the ``overheads`` of recordings of one of its segments, as 16-bit WAV, unless told others.
    """
    config = folder.read_config()
    costs = config.routing.costs_ms
    if not costs:
        raise ConfigError(
            "the run does not say what its experts cost",
            where=str(folder.path),
            mend="a run fitted in closed form does: xmoe train, or xmoe calibrate RUN",
        )
    names = config.model.callable_experts
    settings, samples = ServeSettings(run=str(folder.path)), config.spectro.segment_samples
    wav_bytes = SAMPLE_BYTES * samples
    row_bytes = wav_bytes if config.model.hears_sound else 0
    times = Times(
        plan_ms=config.routing.glance_ms,
        expert_ms={
            name: ms
            for name, ms in zip(config.model.expert_names, costs, strict=True)
            if name in names
        },
        max_rows=bound_rows(config, settings, row_bytes),
        # What is too large for the event loop is decoded in threads that let go of the interpreter.
        router_threads=(
            1 if samples <= settings.router.small_samples else settings.router.decode_threads
        ),
    )
    return (overheads or overheads_of(wav_bytes / 1e6)).add_to(times)


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
        routers=count(times.plan_ms + times.request_ms + times.aside_ms + calls * times.call_ms),
        experts={
            name: count(part * (times.expert_ms[name] + times.reply_ms))
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
