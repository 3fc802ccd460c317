"""``xmoe expert``, ``xmoe calibrate``: what the experts of a run cost and add, and which stay."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xmoe.cli.options import EXISTING_FOLDER, Budget, command, session
from xmoe.cli.output import Reply, make_table

if TYPE_CHECKING:
    from xmoe.base.config import RunConfig
    from xmoe.pipeline.settle import Settled


@click.group("expert")
def expert() -> None:
    """Experts of a run in closed form: list them, take one out."""


@command("list")
@click.argument("run", type=EXISTING_FOLDER)
def list_experts(*, run: Path) -> Reply:
    """Print what each expert of RUN sees, costs and adds, in the order in which they are asked."""
    from xmoe.base.files import read_json
    from xmoe.run.folder import RunFile, RunFolder

    folder = RunFolder(run)
    config = folder.read_config()
    usage_file = folder.file(RunFile.USAGE)
    usage = read_json(usage_file) if usage_file.is_file() else {}
    policy = read_json(folder.file(RunFile.POLICY))
    table = {row["name"]: row for row in policy.get("candidates", ())}
    rows = [_describe(config, index, table, usage) for index in range(len(config.model.experts))]
    names = ("expert", "kind", "front end", "band_hz", "ms", "weight", "gain", "asked")
    cells = [[_show(row[name]) for name in names] for row in rows]
    cards = [(spec.name, spec.card) for spec in config.model.experts if spec.kind == "backbone"]
    terms = [f"{name}: {card.name}, {card.terms}" for name, card in cards]
    return Reply({"run": run, "experts": rows}, [make_table("", names, cells), *terms])


@command("remove")
@click.argument("run", type=EXISTING_FOLDER)
@click.argument("name")
def remove_expert(*, run: Path, name: str) -> Reply:
    """Take the expert NAME out of RUN: weights and promises are fitted again, nothing else.

    RUN is changed; figures on test are those of before.
    """
    return _reroute(run, None, (name,))


expert.add_command(list_experts)
expert.add_command(remove_expert)


@command("calibrate")
@click.argument("run", type=EXISTING_FOLDER)
@click.option("--budget", type=Budget(), help="The run's own if left out.")
def calibrate(*, run: Path, budget: str | float | None) -> Reply:
    """Measure what the experts of RUN cost on this machine, and choose K for a budget anew.

    Nothing is trained: the run keeps its held-out answers. RUN is changed; figures on test are
    those of before.
    """
    return _reroute(run, budget, ())


def _reroute(run: Path, budget: str | float | None, without: tuple[str, ...]) -> Reply:
    from xmoe.base.progress import show_progress
    from xmoe.pipeline.recalibrate import recalibrate

    with show_progress(quiet=session().quiet) as progress:
        settled = recalibrate(run, budget=budget, without=without, progress=progress)
    return _describe_routing(run, settled)


def _describe_routing(run: Path, settled: Settled) -> Reply:
    routing = settled.routing
    names = settled.promised.depths.order
    fields = {"run": run, "experts": names, "routing": routing.model_dump()}
    costs = ", ".join(f"{name} {ms:.1f}" for name, ms in zip(names, routing.costs_ms, strict=True))
    lines: list[Any] = [
        f"budget     {routing.budget}: {routing.reasons['k']}",
        f"ms         glance {routing.glance_ms:.1f}, {costs}",
        f"uncertain  {routing.reasons['uncertain']}",
    ]
    return Reply(fields, lines)


def _describe(
    config: RunConfig, index: int, table: dict[str, Any], usage: dict[str, Any]
) -> dict[str, Any]:
    spec, costs = config.model.experts[index], config.routing.costs_ms
    row = table.get(spec.name, {})
    own = getattr(spec, "spectro", None)
    card = spec.card if spec.kind == "backbone" else None
    low, high = spec.band_hz
    return {
        "expert": spec.name,
        "kind": spec.kind,
        "front end": None if own is None else own.frontend,
        "licence": None if card is None else card.licence,
        "source": None if card is None else card.source,
        "band_hz": [round(low, 1), round(high, 1)],
        "ms": costs[index] if costs else None,
        "weight": row.get("weight"),
        "gain": row.get("gain"),
        "asked": usage.get("selection_rate", {}).get(spec.name),
    }


def _show(value: object) -> str:
    if isinstance(value, list):
        return " to ".join(f"{item:g}" for item in value)
    if isinstance(value, float):
        return f"{value:.3g}"
    return "-" if value is None else str(value)
