"""``xmoe size``: a run -> memory of each process that serves it, and values for the chart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from xmoe.cli.options import ANY_PATH, FiniteRange, command
from xmoe.cli.output import Reply, make_table


@command("size")
@click.argument("run")
@click.option("--node-cpus", type=FiniteRange(0.1), default=4.0, show_default=True)
@click.option("--node-gb", type=FiniteRange(0.5), default=8.0, show_default=True)
@click.option("--out", type=ANY_PATH, help="Write the settings there, as values of the chart.")
def size(*, run: str, node_cpus: float, node_gb: float, out: Path | None) -> Reply:
    """Start each process that serves RUN once, and tell what it holds in memory.

    RUN is a folder or an s3:// or gs:// address. Resident memory counts libraries in every process;
    a node holds them once, so the share (PSS) is what adds up. Then: how many replicas fit a node,
    and what they should ask Ray for, which --out writes for `helm install -f`.
    """
    from xmoe.base.files import write_json
    from xmoe.serve.plan.size import Node, measure_sizes

    where = run if "://" in run else str(Path(run).resolve())
    found = measure_sizes(where, Node(cpus=node_cpus, memory_mb=1000.0 * node_gb))
    rows = [(p.name, p.rss_mb, p.pss_mb, p.own_mb, p.asked_mb) for p in found.processes]
    total = [sum(column) for column in zip(*(row[1:] for row in rows), strict=True)]
    columns = ("process", "resident MB", "share MB", "own MB", "asks Ray for MB")
    shown: list[Any] = [
        make_table("memory of each process", columns, [*rows, ("all", *total)]),
        f"a node of {node_cpus:g} processors and {node_gb:g} GB: {found.sets_per_node} times all of"
        f" them, or {found.replicas_per_node} replicas of the usual expert",
    ]
    if out is not None:
        write_json(out, {"service": {"settings": found.settings}})
        shown.append(f"written to {out}: helm install ... -f {out}")
    return Reply({"ok": True, "run": run, **found.model_dump(mode="json")}, shown)
