"""Does `xmoe plan` tell the truth? A measured load beside the simulated one, on this machine.

python benchmarks/plan.py RUN CLIP... [--clients 1 4 16 32] [--seconds 10]

``xmoe serve`` (distributed, Ray's own proxy) is asked by closed-loop clients; the simulation has
the same clients, one replica of each and the cores of this machine. What a request and a call cost
beside stem and experts is taken from the row with one client alone (CPU-ms of the whole tree, and
its median latency); the other rows are predictions. Clips of one segment each. Prints a Markdown
table; a machine on which other work runs measures that work.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from load import Load
from serving import Figures, free_port, measure, running

from xmoe.run.folder import RunFolder
from xmoe.serve.plan.capacity import CALL_MS, read_asked, read_times
from xmoe.serve.plan.simulate import Asked, Demand, Fleet, Outcome, Times, simulate

PROXY_SHARE = 1 / 3  # of what a request costs beside stem, experts and calls


def fit_times(times: Times, rows: Sequence[Asked], *, cpu_ms: float, p50_ms: float) -> Times:
    """Return the times with overheads by which one client costs and waits as was measured."""
    asked = [(*row.first, *row.further) for row in rows]
    calls = float(np.mean([len(row) for row in asked]))
    work = times.plan_ms + float(np.mean([sum(times.expert_ms[n] for n in row) for row in asked]))
    rest = max(0.0, cpu_ms - work - calls * CALL_MS)
    fitted = times.model_copy(
        update={"proxy_ms": PROXY_SHARE * rest, "request_ms": (1 - PROXY_SHARE) * rest}
    )
    alone = Fleet(routers=1, experts=dict.fromkeys(times.expert_ms, 1))
    found = simulate(fitted, alone, rows, Demand(clients=1, requests=500))
    missing = (p50_ms - found.p50_ms) / max(calls, 1e-9)
    return fitted.model_copy(update={"link_ms": max(0.0, fitted.link_ms + missing)})


def measure_all(
    run: Path, clips: Sequence[bytes], clients: Sequence[int], seconds: float
) -> dict[int, Figures]:
    """Return what each number of clients saw of one `xmoe serve`."""
    port = free_port()
    load = Load(f"http://127.0.0.1:{port}", clips)
    found = {}
    with running("distributed", run, port, load, ingress="python") as tree:
        for count in clients:
            load.forget()
            found[count] = measure("distributed", tree, load, count, seconds)
    return found


def describe(measured: Figures, expected: Outcome) -> str:
    """Return one row of the table: measured, expected, and the largest of the three differences."""
    keys = ("p50_ms", "p99_ms", "per_second")
    pairs = [(getattr(measured, key), getattr(expected, key)) for key in keys]
    worst = max(abs(e / m - 1.0) for m, e in pairs)
    cells = [f"{m:.1f} | {e:.1f}" for m, e in pairs]
    return f"| {measured.clients} | {' | '.join(cells)} | {worst:.0%} |"


def main() -> None:
    """Measure, predict and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("clips", type=Path, nargs="+")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16, 32])
    parser.add_argument("--seconds", type=float, default=10.0)
    given = parser.parse_args()
    folder = RunFolder(given.run)
    bodies = [clip.read_bytes() for clip in given.clips]
    clients = sorted({1, *given.clients})
    found = measure_all(given.run, bodies, clients, given.seconds)
    rows = read_asked(folder)
    one = found[1]
    times = fit_times(read_times(folder), rows, cpu_ms=one.cpu_ms, p50_ms=one.p50_ms)
    fleet = Fleet(
        routers=1,
        experts=dict.fromkeys(times.expert_ms, 1),
        cores=len(os.sched_getaffinity(0)),
    )
    print(
        f"proxy {times.proxy_ms:.1f}, request {times.request_ms:.1f}, link {times.link_ms:.1f} ms"
    )
    print("| clients | p50 ms | expected | p99 ms | expected | answers/s | expected | off by |")
    print("|---|---|---|---|---|---|---|---|")
    for count in clients:
        expected = simulate(times, fleet, rows, Demand(clients=count, requests=3000))
        print(describe(found[count], expected))


if __name__ == "__main__":
    main()
