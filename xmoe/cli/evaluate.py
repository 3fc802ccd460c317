"""``xmoe eval``: a run folder + labelled recordings -> figures with intervals."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from xmoe.cli.figures import explanations_tables, metrics_table, robustness_table
from xmoe.cli.options import (
    EXISTING_FOLDER_OR_ADDRESS,
    FOLDER_OR_ADDRESS,
    command,
    dataset_options,
    ray_options,
    session,
)
from xmoe.cli.output import Reply

if TYPE_CHECKING:
    from xmoe.base.config import Device


@command("eval")
@click.argument("run", type=EXISTING_FOLDER_OR_ADDRESS)
@dataset_options
@click.option("--split", type=click.Choice(["train", "val", "test"]), default="test")
@click.option("--out", type=FOLDER_OR_ADDRESS, help="Where to write; RUN/eval-SPLIT if left out.")
@click.option("--explanations", is_flag=True, help="Measure how faithful explanations are, too.")
@click.option(
    "--explained",
    type=click.IntRange(min=2),
    default=48,
    show_default=True,
    help="Clips that --explanations takes; some seconds each.",
)
@click.option(
    "--robustness",
    is_flag=True,
    help="Measure how much is still right under noise, clipping, lower rates and more, too; "
    "written into RUN, where the report takes it from, or into --out.",
)
@click.option(
    "--harmed",
    type=click.IntRange(min=2),
    default=200,
    show_default=True,
    help="Clips that --robustness takes; each is answered at every level.",
)
@ray_options
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto")
def evaluate(
    *,
    run: Path | str,
    dataset: Path | str,
    metadata: Path | str | None,
    split: str,
    test_fold: int | None,
    out: Path | str | None,
    explanations: bool,
    explained: int,
    robustness: bool,
    harmed: int,
    engine: Literal["auto", "loop", "ray"],
    workers: int | None,
    device: Device,
) -> Reply:
    """Measure the classifier in RUN on one split of labelled recordings.

    RUN and --out may be addresses too. More than 2000 clips are answered on Ray.
    """
    from xmoe.base.progress import show_progress
    from xmoe.jobs.evaluate import choose_answerer
    from xmoe.pipeline.classifier import MoEAudioClassifier
    from xmoe.run.publish import published
    from xmoe.storage.mirror import name_address

    where = run if isinstance(run, str) else str(run.absolute())
    classifier = MoEAudioClassifier.load(run, device=device)
    with (
        show_progress(quiet=session().quiet) as progress,
        published(out or run, progress=progress) as base,
    ):
        folder = base if out else base / f"eval-{split}"
        metrics = classifier.evaluate(
            dataset,
            metadata,
            split=split,
            test_fold=test_fold,
            out_dir=folder,
            explained=explained if explanations else 0,
            answerer=choose_answerer(where, engine=engine, workers=workers),
            progress=progress,
        )
        curves = None
        if robustness:
            curves = classifier.measure_robustness(
                dataset,
                metadata,
                split=split,
                test_fold=test_fold,
                clips=harmed,
                out_dir=base,
                progress=progress,
            )
    written = name_address(str(folder))
    fields = {**metrics, "run": run, "split": split, "out": written}
    shown: list[Any] = [metrics_table(metrics, f"{split} split")]
    if explanations:
        shown += explanations_tables(metrics["explanations"])
    shown.append(f"written to {written}")
    if curves is not None:
        fields["robustness"] = curves
        shown += [robustness_table(curves), f"robustness.json and .png are in {out or run}"]
        if out is None:
            shown.append(f"next: xmoe report {run} puts them into the report")
    return Reply(fields, shown)
