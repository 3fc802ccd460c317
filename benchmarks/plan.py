"""Does `xmoe plan` tell the truth? A measured load beside the simulated one, on this machine.

python benchmarks/plan.py RUN CLIP... [--clients 1 4 16 32] [--seconds 30] [--ingress haproxy]

``xmoe serve`` (distributed) is asked by closed-loop clients; the simulation has the same clients,
one replica of each and the cores of this machine. CLIPs are test clips of the run, of one segment
each. What a request costs beside stem and experts is fitted first:

work   processor time of proxy, router and experts, as their processes used it under the most
       clients. What one client's requests cost more is that of their calls, which they do not share
       with a block: the router and the experts say how many there were.
delay  what one client waited longer than its work takes (median). Where it waited less, the router
       did that much of its work after the answer.
spread how much the work varies: as much as one client's p99 lies above its median.

So the first row takes its latency from the measurement and the last one its processor time; all
else is predicted. Prints the overheads, as `xmoe.serve.plan.capacity.MEASURED` holds them, the
processor ms of each role (and of all else on these cores), and a Markdown table.
"""

from __future__ import annotations

import argparse
import json
import os
import threading
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from load import WARM_UP_S, Load
from serving import free_port, running

from xmoe.run.folder import RunFolder
from xmoe.serve.plan.capacity import Overheads, read_asked, read_times
from xmoe.serve.plan.simulate import Asked, Demand, Fleet, Outcome, Times, simulate
from xmoe.serve.router.router import SAMPLE_BYTES

ROLES = {
    "ray::ProxyActor": "proxy",
    "ray::HAProxyManager": "proxy",
    "/bin/haproxy": "proxy",
    "ray::ServeReplica:xmoe:router": "router",
    "ray::ServeReplica:xmoe:expert-": "experts",
}
OTHERS = "others"
BUSY = ("user", "nice", "system", "irq", "softirq", "steal")
FIGURES = ("p50_ms", "p99_ms", "per_second")
SHARED = 0.05  # calls a request fewer, from which what they cost can be told
SPREAD = 0.5  # where the search begins
TRIES = 8


@dataclass(frozen=True)
class Seen:
    """What some clients saw, the processor time of an answer by role, and its calls to experts."""

    clients: int
    p50_ms: float
    p99_ms: float
    per_second: float
    work_ms: Mapping[str, float]
    calls: float

    @property
    def others(self) -> float:
        """How many cores were busy with all else: Ray's own processes, the clients, strangers."""
        return self.work_ms[OTHERS] * self.per_second / 1000.0


def find_overheads(known: Times, rows: Sequence[Asked], seen: Sequence[Seen]) -> Overheads:
    """Return the overheads by which the first and the last of what was seen cost what they did.

    ``known`` are the run's own times without any.
    """
    one, most = seen[0], seen[-1]
    call_ms, router_ms = split("router", one, most)
    reply_ms, experts_ms = split("experts", one, most)
    asked = [(*row.first, *row.further) for row in rows]
    inferred_ms = float(np.mean([sum(known.expert_ms[name] for name in row) for row in asked]))
    segments = float(np.mean([len(row) for row in asked]))
    beside_ms = max(0.0, router_ms - known.plan_ms)
    found = Overheads(
        proxy_ms=most.work_ms["proxy"],
        call_ms=call_ms,
        reply_ms=reply_ms,
        row_ms=(experts_ms - inferred_ms) / max(segments, 1e-9),
    )
    alone, missing_ms, spread = fleet_of(known, most.others), 0.0, SPREAD
    for _ in range(TRIES):
        aside_ms = min(beside_ms, max(0.0, -missing_ms))
        own = {"request_ms": beside_ms - aside_ms, "aside_ms": aside_ms}
        own |= {"delay_ms": max(0.0, missing_ms), "spread": spread}
        found = found.model_copy(update=own)
        told = simulate(found.add_to(known), alone, rows, Demand(clients=1, requests=2000))
        missing_ms += one.p50_ms - told.p50_ms
        beyond_ms = told.p99_ms - told.p50_ms
        spread *= (one.p99_ms - one.p50_ms) / max(beyond_ms, 1e-9)
    return found


def split(role: str, one: Seen, most: Seen) -> tuple[float, float]:
    """Return what a call costs a role, and what an answer does beside its calls."""
    fewer = one.calls - most.calls
    more_ms = max(0.0, one.work_ms[role] - most.work_ms[role])
    call_ms = more_ms / fewer if fewer > SHARED else 0.0
    call_ms = min(call_ms, most.work_ms[role] / max(most.calls, 1e-9))
    return call_ms, most.work_ms[role] - most.calls * call_ms


def fleet_of(times: Times, others: float = 0.0) -> Fleet:
    """Return one replica of each on the cores of this machine."""
    experts = dict.fromkeys(times.expert_ms, 1)
    return Fleet(routers=1, experts=experts, cores=len(os.sched_getaffinity(0)), others=others)


def used_s() -> dict[str, float]:
    """Return the processor seconds of each role so far, and of all else on these cores."""
    used = dict.fromkeys(ROLES.values(), 0.0)
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            title, times = " ".join(process.cmdline()), process.cpu_times()
            for role in (role for word, role in ROLES.items() if word in title):
                used[role] += times.user + times.system
    cores = psutil.cpu_times(percpu=True)
    all_s = sum(getattr(cores[index], way) for index in os.sched_getaffinity(0) for way in BUSY)
    return used | {OTHERS: all_s - sum(used.values())}


def counted(url: str) -> tuple[int, int]:
    """Return how many requests the router has answered so far, and its calls to all experts."""
    told = []
    for route in ("ops", "experts"):
        with urllib.request.urlopen(f"{url}/v1/{route}") as answer:
            told.append(json.load(answer))
    ops, experts = told
    return ops["load"]["requests"], sum(one["calls"] for one in experts["experts"])


def measure(url: str, load: Load, clients: int, seconds: float) -> Seen:
    """Return what so many clients see; the warm-up is in neither time nor processor time."""
    load.forget()
    used: list[dict[str, float]] = []
    moments = (WARM_UP_S, WARM_UP_S + seconds)
    timers = [threading.Timer(moment, lambda: used.append(used_s())) for moment in moments]
    before = counted(url)
    for timer in timers:
        timer.start()
    found: dict[str, Any] = load.run(clients, seconds)
    for timer in timers:
        timer.join()
    requests, calls = np.subtract(counted(url), before)
    answers = max(1, load.in_time)
    return Seen(
        clients=clients,
        work_ms={role: 1000.0 * (used[1][role] - used[0][role]) / answers for role in used[0]},
        calls=float(calls / max(1, requests)),
        **{key: found[key] for key in FIGURES},
    )


def measure_all(
    run: Path, clips: Sequence[bytes], clients: Sequence[int], seconds: float, ingress: str
) -> list[Seen]:
    """Return what each number of clients saw of one `xmoe serve`."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    load = Load(url, clips)
    with running("distributed", run, port, load, ingress=ingress):
        return [measure(url, load, count, seconds) for count in clients]


def describe(seen: Seen, expected: Outcome) -> str:
    """Return one row of the table: measured / expected, and the largest difference."""
    pairs = [(getattr(seen, key), getattr(expected, key)) for key in FIGURES]
    worst = max(abs(e / m - 1.0) for m, e in pairs)
    cells = [f"{m:.1f} / {e:.1f}" for m, e in pairs]
    return f"| {seen.clients} | {' | '.join(cells)} | {worst:.0%} |"


def main() -> None:
    """Measure, predict and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("clips", type=Path, nargs="+")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16, 32])
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--ingress", choices=("haproxy", "python"), default="haproxy")
    given = parser.parse_args()
    bodies = [clip.read_bytes() for clip in given.clips]
    clients = sorted({1, *given.clients})
    seen = measure_all(given.run, bodies, clients, given.seconds, given.ingress)
    folder = RunFolder(given.run)
    known, rows = read_times(folder, Overheads()), read_asked(folder)
    found = find_overheads(known, rows, seen)
    mb = SAMPLE_BYTES * folder.read_config().spectro.segment_samples / 1e6
    print({name: round(value, 3) for name, value in {**found.model_dump(), "mb": mb}.items()})
    print(
        f"| clients | {' | '.join(seen[0].work_ms)} | calls an answer |\n|---|---|---|---|---|---|"
    )
    for row in seen:
        cells = [f"{ms:.1f}" for ms in row.work_ms.values()]
        print(f"| {row.clients} | {' | '.join(cells)} | {row.calls:.2f} |")
    print("| clients | p50 ms, measured / expected | p99 ms | answers/s | off by at most |")
    print("|---|---|---|---|---|")
    fleet, times = fleet_of(known, seen[-1].others), found.add_to(known)
    for row in seen:
        demand = Demand(clients=row.clients, requests=4000)
        print(describe(row, simulate(times, fleet, rows, demand)))


if __name__ == "__main__":
    main()
