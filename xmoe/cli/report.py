"""``xmoe report``: a run folder -> one HTML file that says what was found, chosen and learnt.

Or two run folders -> how they differ on the test clips that both answered.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xmoe.cli.options import (
    EXISTING_FILE_OR_ADDRESS,
    EXISTING_FOLDER,
    EXISTING_FOLDER_OR_ADDRESS,
    command,
)
from xmoe.cli.output import Reply, make_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xmoe.report.compare import Comparison, Difference


@command("report")
@click.argument("run", type=EXISTING_FOLDER)
@click.option(
    "--dataset", type=EXISTING_FOLDER_OR_ADDRESS, help="The recordings, if they have moved."
)
@click.option(
    "--metadata", type=EXISTING_FILE_OR_ADDRESS, help="Their manifest, if file names changed."
)
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="RUN/report.html if left out."
)
@click.option(
    "--compare",
    type=EXISTING_FOLDER,
    help="Another run: print how RUN differs from it on the test clips of both; writes nothing.",
)
def report(
    *,
    run: Path,
    dataset: Path | str | None,
    metadata: Path | str | None,
    out: Path | None,
    compare: Path | None,
) -> Reply:
    """Write the report of RUN: one HTML file with pictures and sounds in it.

    It shows the data, the choices and their reasons, the training, the figures on the test split,
    the routing, and the ten most certain mistakes, for which the recordings are needed.
    """
    if compare is not None:
        if dataset or metadata or out:
            raise click.UsageError("--compare takes two runs and no other option")
        return compare_two(compare, run)
    from xmoe.pipeline.reporting import report_run

    if metadata is not None and dataset is None:
        raise click.UsageError("--metadata needs --dataset, the folder that its paths begin in")
    written = report_run(run, dataset_dir=dataset, metadata_csv=metadata, out=out)
    return Reply({"run": run, "report": written}, [f"report     {written}"])


def compare_two(first: Path, second: Path) -> Reply:
    from xmoe.report.compare import compare_runs, describe

    found = compare_runs(first, second)
    shown: list[Any] = [
        difference_table(f"test clips of both: {found.num_clips}", found, found.figures)
    ]
    if found.classes:
        shown.append(difference_table("recall of classes that differ most", found, found.classes))
    shown.append(describe_counts(found))
    shown += [f"note: {note}" for note in found.notes]
    return Reply(describe(found), shown)


def difference_table(title: str, found: Comparison, rows: Sequence[Difference]) -> Any:
    columns = ("", *found.runs, "difference", "95 % interval", "")
    cells = [
        (
            row.name,
            f"{row.first:.4f}",
            f"{row.second:.4f}",
            f"{row.value:+.4f}",
            "-" if row.interval is None else "{:+.4f} to {:+.4f}".format(*row.interval),
            "clear" if row.is_clear else "",
        )
        for row in rows
    ]
    return make_table(title, columns, cells)


def describe_counts(found: Comparison) -> str:
    one, other = len(found.only_first), len(found.only_second)
    neither = found.num_clips - found.both - one - other
    first, second = found.runs
    return (
        f"right: {found.both} by both, {one} by {first} alone, {other} by {second} alone, "
        f"{neither} by neither; {found.units} sources were drawn"
    )
