"""``xmoe infer``: a run folder + recordings -> one answer each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xmoe.cli.batch import answer_batch, batch_options
from xmoe.cli.edge import EXIT_INPUT, EXIT_OK
from xmoe.cli.figures import answers_table
from xmoe.cli.options import ANY_PATH, command, session
from xmoe.cli.output import Reply
from xmoe.errors import AudioError

if TYPE_CHECKING:
    from xmoe.classifier import MoEAudioClassifier
    from xmoe.config import Device
    from xmoe.progress import Progress


@command("infer")
@click.argument("run")
@click.argument("files", type=ANY_PATH, nargs=-1)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto")
@batch_options
def infer(*, run: str, files: Sequence[Path], device: Device, **batch: Any) -> Reply:
    """Answer for each of FILES, or for all that --input names, with the classifier in RUN.

    A file that cannot be read is reported in its place and makes the exit code 2; the others are
    answered. With --input the answers go to files in --output, one row for each recording, and a
    call that was stopped goes on where it was; RUN may be an address too.
    """
    if batch["source"] is not None or batch["output"] is not None:
        return answer_batch(run, files, device=device, **batch)
    if not files:
        raise click.UsageError("name FILES, or --input and --output")
    return answer_listed(Path(run), files, device)


def answer_listed(run: Path, files: Sequence[Path], device: Device) -> Reply:
    """Return the reply for files that were named one by one."""
    from xmoe.classifier import MoEAudioClassifier
    from xmoe.progress import show_progress

    classifier = MoEAudioClassifier.load(run, device=device)
    with show_progress(quiet=session().quiet or len(files) < 10) as progress:
        rows = list(answer_files(classifier, files, progress))
    failed = sum("error" in row for row in rows)
    fields = {"ok": not failed, "run": run, "answers": rows, "failed": failed}
    return Reply(fields, [answers_table(rows)], EXIT_INPUT if failed else EXIT_OK)


def answer_files(
    classifier: MoEAudioClassifier, files: Sequence[Path], progress: Progress
) -> Iterator[dict[str, Any]]:
    """Yield the fields of each answer, or of the error that a file met."""
    for done, path in enumerate(files, 1):
        try:
            answer = classifier.predict(path)
            yield {"file": str(path), **answer.model_dump(mode="json")}
        except AudioError as error:
            yield {"file": str(path), "code": error.code, **error.as_dict()}
        progress("infer", done, len(files))
