"""``xmoe infer RUN --input SRC --output DIR``: very many recordings -> a folder of answers."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypedDict

import click

from xmoe.cli.edge import EXIT_INPUT, EXIT_OK
from xmoe.cli.options import all_of, ray_options, session
from xmoe.cli.output import Reply

if TYPE_CHECKING:
    from xmoe.audio.reading import Reading
    from xmoe.base.config import Device
    from xmoe.batch.ledger import Format
    from xmoe.batch.run import BatchSummary


FORMATS: tuple[Format, ...] = ("parquet", "csv", "jsonl")


class BatchOptions(TypedDict):
    """Command-line options on a batch."""

    source: str | None
    output: str | None
    formats: tuple[str, ...]
    shard_size: int
    engine: Literal["auto", "loop", "ray"]
    workers: int | None
    strict: bool
    reading: Reading


# Options of a batch: its source, and how work is shared out.
batch_options = all_of(
    click.option(
        "--input",
        "source",
        help="Instead of FILES: a folder, a pattern in quotes or a table of paths; "
        "here or at s3://, gs://.",
    ),
    click.option(
        "--shard-size",
        type=click.IntRange(1),
        default=256,
        show_default=True,
        help="With --input: recordings per file of answers.",
    ),
    ray_options,
    click.option(
        "--strict",
        is_flag=True,
        help="With --input: exit code 2 if any recording could not be read, not only if "
        "none could.",
    ),
)


def answer_batch(run: str, files: Sequence[Path], device: Device, options: BatchOptions) -> Reply:
    """Answer for a whole source; what an earlier call finished is skipped."""
    from xmoe.base.progress import show_progress
    from xmoe.batch.run import BatchRequest
    from xmoe.jobs.infer import run_infer

    source, output = options["source"], options["output"]
    if source is None or output is None or files:
        raise click.UsageError("--input and --output go together, and without FILES")
    kind = pick_format(options["formats"])
    request = BatchRequest(
        run, source, output, options["shard_size"], kind, device, options["reading"]
    )
    again = shlex.join(["xmoe", "infer", run, "--input", source, "--output", output])
    session().resume_hint = f"finished shards are kept; go on with: {again}"
    with show_progress(quiet=session().quiet) as progress:
        summary = run_infer(
            request, engine=options["engine"], workers=options["workers"], progress=progress
        )
    ok = summary.bad < summary.rows and not (options["strict"] and summary.bad)
    fields = {"ok": ok, "run": run, **asdict(summary)}
    return Reply(fields, describe_batch(summary), EXIT_OK if ok else EXIT_INPUT)


def pick_format(formats: Sequence[str]) -> Format:
    """The one format of the answers; a usage error for one that only events have."""
    given = set(formats) or {"parquet"}
    for kind in FORMATS:
        if given == {kind}:
            return kind
    what = f"--format {' '.join(sorted(given))}: with --input one of {', '.join(FORMATS)}"
    raise click.UsageError(what)


def describe_batch(summary: BatchSummary) -> list[str]:
    kept = summary.shards - summary.shards_done
    lines = [f"note: {note}" for note in summary.notes]
    if summary.repeated:
        shown = ", ".join(summary.repeated[:3]) + (" ..." if summary.repeated[3:] else "")
        lines.append(f"note: {len(summary.repeated)} named more than once, answered once: {shown}")
    if summary.again:
        lines.append(
            f"note: {summary.again} recordings changed since they were answered, or could not be "
            "opened then: answered again"
        )
    if summary.doubtful:
        lines.append(
            f"note: {summary.doubtful} recordings are answered with a warning (column warnings)"
        )
    lines.append(
        f"{summary.rows} recordings, one row each; {summary.bad} could not be read"
        + (f" (why: {summary.output}/_quarantine.csv)" if summary.bad else "")
    )
    lines.append(f"{summary.shards} files" + (f", {kept} of them from before" if kept else ""))
    return [*lines, f"written to {summary.output}"]
