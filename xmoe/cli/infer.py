"""``xmoe infer``: a run folder + recordings -> one answer each, or with ``--hop`` their events."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xmoe.base.errors import AudioError
from xmoe.cli.annotate import FORMATS, EventOptions, annotate_files, event_options
from xmoe.cli.batch import BatchOptions, answer_batch, batch_options
from xmoe.cli.edge import EXIT_INPUT, EXIT_OK
from xmoe.cli.figures import answers_table
from xmoe.cli.options import ANY_PATH, command, reading_options, session
from xmoe.cli.output import Reply

if TYPE_CHECKING:
    from xmoe.audio.reading import Reading
    from xmoe.base.config import Device
    from xmoe.base.progress import Progress
    from xmoe.pipeline.classifier import MoEAudioClassifier


SHARED = frozenset(("output", "formats", "reading"))
OF_BATCH = frozenset(BatchOptions.__annotations__) - SHARED
OF_EVENTS = frozenset(EventOptions.__annotations__) - SHARED


@command("infer")
@click.argument("run")
@click.argument("files", type=ANY_PATH, nargs=-1)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto")
@click.option(
    "--out",
    "--output",
    "output",
    help="With --input: the folder or address of the answers. With --hop: the folder of the "
    "events; RUN/annotations if left out.",
)
@click.option(
    "--format",
    "formats",
    type=click.Choice((*FORMATS, "all")),
    multiple=True,
    help="With --input: parquet (if left out), csv or jsonl. With --hop: any, also several times; "
    "csv if left out.",
)
@reading_options
@batch_options
@event_options
def infer(*, run: str, files: Sequence[Path], device: Device, **options: Any) -> Reply:
    """Answer for each of FILES, or for all that --input names, with the classifier in RUN.

    A file that cannot be read is reported in its place and makes the exit code 2; the others are
    answered. With --input the answers go to files in --output, one row for each recording, and a
    call that was stopped resumes where it was; recordings that changed since are answered again,
    and the exit code is 2 if none could be read. RUN may be an address too. With --hop each of
    FILES may be of any length: a window begins every --hop seconds, neighbours of one class become
    events, and these are written to files.
    """
    from xmoe.audio.reading import Reading

    options["reading"] = Reading(options["channel"], options["time_expansion"])
    if options["source"] is not None:
        refuse(OF_EVENTS, "does not go with --input")
        batch: Any = {name: options[name] for name in BatchOptions.__annotations__}
        return answer_batch(run, files, device, batch)
    refuse(OF_BATCH, "give --input too, or leave it out")
    if options["hop"] is None:
        refuse(OF_EVENTS, "give --hop too, or leave it out")
        refuse(SHARED, "give --input or --hop too, or leave it out")
    if not files:
        raise click.UsageError("name FILES, or --input and --output")
    if options["hop"] is None:
        return answer_listed(run, files, device, options["reading"])
    events: Any = {name: options[name] for name in EventOptions.__annotations__}
    return annotate_files(Path(run), files, events, device)


def refuse(names: Collection[str], why: str) -> None:
    """Raise a usage error where one of these options stands on the command line."""
    context = click.get_current_context()
    given = [
        param.opts[-1]
        for param in context.command.params
        if param.name in names
        and context.get_parameter_source(param.name) is click.core.ParameterSource.COMMANDLINE
    ]
    if given:
        raise click.UsageError(f"{', '.join(given)}: {why}", context)


def answer_listed(run: str, files: Sequence[Path], device: Device, reading: Reading) -> Reply:
    from xmoe.base.progress import show_progress
    from xmoe.pipeline.classifier import MoEAudioClassifier

    classifier = MoEAudioClassifier.load(run, device=device)
    with show_progress(quiet=session().quiet or len(files) < 10) as progress:
        rows = list(answer_files(classifier, files, reading, progress))
    failed = sum("error" in row for row in rows)
    fields = {"ok": not failed, "run": run, "answers": rows, "failed": failed}
    doubts = [f"note: {row['file']}: {one}" for row in rows for one in row.get("warnings", ())]
    return Reply(fields, [answers_table(rows), *doubts], EXIT_INPUT if failed else EXIT_OK)


def answer_files(
    classifier: MoEAudioClassifier, files: Sequence[Path], reading: Reading, progress: Progress
) -> Iterator[dict[str, Any]]:
    """Yield the fields of each answer, or of a file's error."""
    from xmoe.audio.clip import read_clip
    from xmoe.audio.reading import AS_IT_IS

    for done, path in enumerate(files, 1):
        try:
            usual = reading == AS_IT_IS
            answer = classifier.predict(path if usual else read_clip(path, reading=reading))
            yield {"file": str(path), **answer.model_dump(mode="json")}
        except AudioError as error:
            yield {"file": str(path), "code": error.code, **error.as_dict()}
        progress("infer", done, len(files))
