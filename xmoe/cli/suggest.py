"""``xmoe suggest``: a run and recordings without labels -> which of them to label next."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xmoe.cli.edge import EXIT_INPUT, EXIT_OK
from xmoe.cli.options import EXISTING_FOLDER, FOLDER, command, session
from xmoe.cli.output import Reply, make_table

if TYPE_CHECKING:
    from xmoe.base.config import Device
    from xmoe.batch.suggest import TableFormat

MOST = 2000
SHOWN = 10


@command("suggest")
@click.argument("run", type=EXISTING_FOLDER)
@click.option(
    "--input",
    "source",
    required=True,
    help="A folder, a pattern in quotes or a table of paths; here or at s3://, gs://.",
)
@click.option("--n", "count", type=click.IntRange(1, MOST), default=50, show_default=True)
@click.option("--out", type=FOLDER, help="Folder of the tables; RUN/suggested if left out.")
@click.option(
    "--format",
    "formats",
    type=click.Choice(["raven", "audacity"]),
    multiple=True,
    help="Beside suggested.csv: a table without labels for each recording.",
)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto")
def suggest(
    *,
    run: Path,
    source: str,
    count: int,
    out: Path | None,
    formats: tuple[TableFormat, ...],
    device: Device,
) -> Reply:
    """Write down which recordings to label next: doubtful ones that many others are like.

    suggested.csv has a column to fill in and is read as a manifest then. Of a recording of several
    segments the part is named that RUN doubts most. Recordings that RUN was trained on are left
    out. The exit code is 2 if no recording could be read.
    """
    from xmoe.base.progress import show_progress
    from xmoe.batch.suggest import suggest as choose_next
    from xmoe.batch.suggest import write_suggested
    from xmoe.run.folder import RunFolder

    with show_progress(quiet=session().quiet) as progress:
        found = choose_next(run, source, count, device=device, progress=progress)
    spectro = RunFolder(run).read_config().spectro
    band_hz = (spectro.fmin_hz, spectro.fmax_hz)
    files = write_suggested(out or run / "suggested", found.rows, formats=formats, band_hz=band_hz)
    cells = [
        (row.file, f"{row.start_s:g} to {row.end_s:g}", row.answer, row.probability, row.stands_for)
        for row in found.rows[:SHOWN]
    ]
    names = ("recording", "seconds", "answer", "probability", "stands for")
    title = f"{len(found.rows)} of {found.answered} to label"
    lines = [f"note: {note}" for note in found.notes]
    if found.known:
        lines.append(f"note: {found.known} left out: the run was trained or tested on them")
    if found.bad:
        lines.append(f"note: {len(found.bad)} could not be read, the first {found.bad[0]}")
    lines.append(f"written to {files[0]}")
    ok = bool(found.answered or found.known)
    fields = {"ok": ok, "run": run, **asdict(found), "files": [str(path) for path in files]}
    shown: list[Any] = [make_table(title, names, cells), *lines]
    return Reply(fields, shown, EXIT_OK if ok else EXIT_INPUT)
