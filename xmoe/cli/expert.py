"""``xmoe expert``, ``calibrate``, ``update``: a run in closed form, looked at and changed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xmoe.cli.options import (
    EXISTING_FOLDER,
    EXISTING_FOLDER_OR_ADDRESS,
    Budget,
    command,
    metadata_option,
    session,
)
from xmoe.cli.output import Reply, make_table

if TYPE_CHECKING:
    from xmoe.base.config import RunConfig
    from xmoe.pipeline.settle import Settled
    from xmoe.policy.records import StackRow


SHOWN_BAD = 5


@click.group("expert")
def expert() -> None:
    """Experts of a run in closed form: list them, add one, take one out."""


@command("list")
@click.argument("run", type=EXISTING_FOLDER)
def list_experts(*, run: Path) -> Reply:
    """Print what each expert of RUN sees, costs and adds, in the order in which they are asked."""
    from xmoe.base.files import read_json
    from xmoe.policy.policy import Policy
    from xmoe.report.records import RunRecords
    from xmoe.run.folder import RunFile, RunFolder

    folder = RunFolder(run)
    folder.checkpoint_folder()  # before that there are settings, but no experts
    config = folder.read_config()
    outdated, usage_file = RunRecords(run).outdated, folder.file(RunFile.USAGE)
    usage = read_json(usage_file) if usage_file.is_file() and not outdated else {}
    policy = folder.read_record(RunFile.POLICY, Policy)
    table = {row.name: row.model_dump() for row in policy.candidates}
    rows = [_describe(config, index, table, usage) for index in range(len(config.model.experts))]
    names = ("expert", "kind", "front end", "band_hz", "ms", "weight", "gain", "gain_se", "asked")
    cells = [[_show(row[name]) for name in names] for row in rows]
    cards = [(spec.name, spec.card) for spec in config.model.experts if spec.kind == "backbone"]
    terms = [f"{name}: {card.name}, {card.terms}" for name, card in cards]
    notes = [f"asked: {outdated}"] if outdated else []
    return Reply({"run": run, "experts": rows}, [make_table("", names, cells), *notes, *terms])


@command("add")
@click.argument("run", type=EXISTING_FOLDER)
@click.argument("spec")
@click.option("--dataset", "datasets", type=EXISTING_FOLDER, required=True, multiple=True)
@click.option("--trust", multiple=True, metavar="NAME", help="A card or file that may run code.")
def add_expert(
    *, run: Path, spec: str, datasets: tuple[Path, ...], trust: tuple[str, ...]
) -> Reply:
    """Add the expert SPEC to RUN: a family such as low_pcen, or a JSON file with a spec or with the
    card of a pretrained network.

    --dataset is the folder that RUN was trained on; repeat it for each that RUN was updated with.
    Only the new expert is measured and fitted; weights and promises are fitted again, and the
    others' heads stay. A card is offered as `xmoe train --backbone` offers it: with all windows,
    with the most salient ones, or not at all where it does not pay. RUN is changed; its figures on
    test are not measured again.
    """
    from xmoe.base.progress import show_progress
    from xmoe.pipeline.refit import grow_run

    with show_progress(quiet=session().quiet) as progress:
        grown = grow_run(run, spec, datasets, trust=trust, progress=progress)
    reply = _describe_routing(run, grown.settled)
    rows = [row for row in grown.rows if row.name in grown.tried]
    names = grown.settled.promised.depths.order
    lines = [_describe_trial(row, row.name in names, run) for row in rows]
    fields = {**reply.fields, "tried": [row.model_dump() for row in rows]}
    return Reply(fields, [*lines, *reply.shown])


def _describe_trial(row: StackRow, asked: bool, run: Path) -> str:
    from xmoe.training.stack import CHEAP_SE

    said = f"{row.gain:+.4f} +- {row.gain_se:.4f} nats for {row.ms:.3g} ms, weight {row.weight:.3g}"
    if not asked:
        said += f"; not added: {row.reason}"
    elif row.gain <= CHEAP_SE * row.gain_se:
        said += (
            f"; {row.reason}, but it is asked from now on: `xmoe expert remove {run} {row.name}` "
            "takes it out"
        )
    return f"{row.name:<10} {said}"


@command("remove")
@click.argument("run", type=EXISTING_FOLDER)
@click.argument("name")
def remove_expert(*, run: Path, name: str) -> Reply:
    """Take the expert NAME out of RUN: weights and promises are fitted again, nothing else.

    RUN is changed; its figures on test are not measured again.
    """
    return _reroute(run, None, (name,))


expert.add_command(list_experts)
expert.add_command(add_expert)
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


@command("update")
@click.argument("run", type=EXISTING_FOLDER)
@click.option(
    "--dataset", type=EXISTING_FOLDER_OR_ADDRESS, required=True, help="Folder of new recordings."
)
@metadata_option
def update(*, run: Path, dataset: Path | str, metadata: Path | str | None) -> Reply:
    """Fit RUN to more labelled recordings as well: heads, weights and promises, in seconds.

    Earlier recordings are not needed, for RUN keeps their features. All new ones are trained on
    except those of a test split, theirs or that of RUN. Experts stay, and labels must be known
    ones. RUN is changed; its figures on test are not measured again.
    """
    from xmoe.audio.dataset import load_more
    from xmoe.base.progress import show_progress
    from xmoe.pipeline.update import update_run
    from xmoe.run.folder import RunFolder

    task = RunFolder(run).read_config().model.task
    with show_progress(quiet=session().quiet) as progress:
        more = load_more(dataset, metadata, task, progress=progress)
        grown = update_run(run, more, progress=progress)
    reply = _describe_routing(run, grown.settled)
    counts = {"clips": grown.clips, "added": grown.added, "known": grown.passed}
    counts |= {"tested": grown.tested, "bad": len(grown.bad)}
    line = f"clips      {grown.clips}, {grown.added} of them new; {grown.passed} were known already"
    if grown.tested:
        line += f"; {grown.tested} are of the run's own test split, and stay out"
    left_out = [f"left out   {one.filepath}: {one.reason}" for one in grown.bad[:SHOWN_BAD]]
    if more_bad := len(grown.bad) - len(left_out):
        left_out.append(f"left out   {more_bad} more that cannot be used")
    return Reply({**reply.fields, **counts}, [line, *left_out, *reply.shown])


def _reroute(run: Path, budget: str | float | None, without: tuple[str, ...]) -> Reply:
    from xmoe.base.progress import show_progress
    from xmoe.pipeline.recalibrate import recalibrate

    with show_progress(quiet=session().quiet) as progress:
        settled = recalibrate(run, budget=budget, without=without, progress=progress)
    reply = _describe_routing(run, settled)
    left = ", ".join(settled.promised.depths.order)
    removed = [f"removed    {name}; {left} stay" for name in without]
    return Reply({**reply.fields, "removed": list(without)}, [*removed, *reply.shown])


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
        "gain_se": row.get("gain_se"),
        "asked": usage.get("selection_rate", {}).get(spec.name),
    }


def _show(value: object) -> str:
    if isinstance(value, list):
        return " to ".join(f"{item:g}" for item in value)
    if isinstance(value, float):
        return f"{value:.3g}"
    return "-" if value is None else str(value)
