"""``xmoe report``: a run folder -> one HTML file that says what was found, chosen and learnt."""

from __future__ import annotations

from pathlib import Path

import click

from xmoe.cli.options import EXISTING_FILE, EXISTING_FOLDER, command
from xmoe.cli.output import Reply


@command("report")
@click.argument("run", type=EXISTING_FOLDER)
@click.option("--dataset", type=EXISTING_FOLDER, help="The recordings, if they have moved.")
@click.option("--metadata", type=EXISTING_FILE, help="Their manifest, if file names changed.")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="RUN/report.html if left out."
)
def report(*, run: Path, dataset: Path | None, metadata: Path | None, out: Path | None) -> Reply:
    """Write the report of RUN: one HTML file with pictures and sounds in it.

    It shows the data, the choices and their reasons, the training, the figures on the test split,
    the routing, and the ten most certain mistakes, for which the recordings are needed.
    """
    from xmoe.pipeline.reporting import report_run

    if metadata is not None and dataset is None:
        raise click.UsageError("--metadata needs --dataset, the folder that its paths begin in")
    written = report_run(run, dataset_dir=dataset, metadata_csv=metadata, out=out)
    return Reply({"run": run, "report": written}, [f"report     {written}"])
