"""``xmoe plan``: a run, a rate and a latency -> replicas, nodes, cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from xmoe.cli.edge import EXIT_FAILED, EXIT_OK
from xmoe.cli.options import ANY_PATH, EXISTING_FOLDER, FiniteRange, command
from xmoe.cli.output import Reply, make_table


@command("plan")
@click.argument("run", type=EXISTING_FOLDER)
@click.option("--rps", type=FiniteRange(0.1), required=True, help="Recordings a second.")
@click.option("--p99-ms", type=FiniteRange(1.0), default=200.0, show_default=True)
@click.option("--node-cpus", type=FiniteRange(0.5), default=4.0, show_default=True)
@click.option("--node-price", type=FiniteRange(0.0), help="Of a node, an hour: for the cost.")
@click.option("--out", type=ANY_PATH, help="Write the settings there, as values of the chart.")
def plan(
    *,
    run: Path,
    rps: float,
    p99_ms: float,
    node_cpus: float,
    node_price: float | None,
    out: Path | None,
) -> Reply:
    """Say what serves --rps recordings a second, each of one segment, within --p99-ms.

    A simulation of the service, from what RUN's experts cost on the machine where it was fitted
    (`xmoe calibrate` on one of the nodes makes that true there) and from whom its test clips asked.
    The exit code is 1 where no number of replicas keeps the latency.
    """
    from xmoe.base.files import write_json
    from xmoe.run.folder import RunFolder
    from xmoe.serve.plan.capacity import Target, find_capacity, read_asked, read_times, to_settings

    folder = RunFolder(run)
    times = read_times(folder)
    target = Target(per_second=rps, p99_ms=p99_ms, node_cpus=node_cpus, price=node_price)
    found = find_capacity(times, read_asked(folder), target)
    settings = to_settings(found)
    outcome, replicas = found.outcome, found.replicas()
    rows = [
        (name, replicas[name], found.asked_per_second.get(name, rps), outcome.busy[name])
        for name in replicas
    ]
    columns = ("deployment", "replicas", "recordings a second", "share of time busy")
    lines: list[Any] = [
        make_table(f"{rps:g} recordings a second, p99 within {p99_ms:g} ms", columns, rows),
        f"expected: p50 {outcome.p50_ms:.1f} ms, p99 {outcome.p99_ms:.1f} ms,"
        f" {outcome.cpu_ms:.1f} CPU-ms a recording, {outcome.rows:.1f} recordings in a block",
        f"nodes of {node_cpus:g} processors: {found.nodes}",
    ]
    if found.cost_per_million is not None:
        lines.append(f"cost of a million recordings: {found.cost_per_million:.2f}")
    if not found.reached:
        lines.append(f"p99 stays over {p99_ms:g} ms: not more replicas, but fewer experts help")
    if out is not None:
        write_json(out, {"service": {"settings": settings}})
        lines.append(f"written to {out}: helm install ... -f {out}")
    fields = {
        "ok": found.reached,
        "run": run,
        "replicas": replicas,
        "nodes": found.nodes,
        "cells": found.cells,
        "cost_per_million": found.cost_per_million,
        "expected": outcome.model_dump(mode="json"),
        "settings": settings,
    }
    return Reply(fields, lines, EXIT_OK if found.reached else EXIT_FAILED)
