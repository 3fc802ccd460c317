"""``xmoe train``: recordings -> a run folder with a classifier that was chosen for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

import click

from xmoe.cli.figures import metrics_table, mixture_table
from xmoe.cli.options import (
    EXISTING_FILE,
    FOLDER_OR_ADDRESS,
    Budget,
    ExpertNames,
    Range,
    WorkerCount,
    all_of,
    command,
    dataset_options,
    repeat_command,
    session,
)
from xmoe.cli.output import Reply

if TYPE_CHECKING:
    from xmoe.pipeline.request import FitRequest

FRONTENDS = ("stft", "logmel", "pcen", "cqt", "cwt")
TASKS = ("single_label", "multi_label")
FIT_HELP = (
    "In closed form, by gradient (as with --epochs), or both, one after the other. If left out the "
    "policy chooses: closed, or both where noise is louder than the sounds."
)


# One option for each choice of the policy; what is not given stays the policy's.
override_options = all_of(
    click.option("--frontend", type=click.Choice(FRONTENDS), help="Spectrogram of the glance."),
    click.option(
        "--sample-rate",
        "sample_rate_hz",
        type=click.IntRange(1000, 384_000),
        help="Hz to which recordings are resampled for the glance.",
    ),
    click.option("--band", "band_hz", type=Range("Hz"), help="Lowest and highest Hz."),
    click.option("--num-bins", type=click.IntRange(16), help="Rows of the spectrogram."),
    click.option("--segment", "segment_s", type=float, help="Seconds per segment."),
    click.option(
        "--experts", type=ExpertNames(), help="At most how many, or which families (a,b,c)."
    ),
    click.option("--k-max", type=click.IntRange(0), help="Most experts per segment."),
    click.option("--window-frames", type=click.IntRange(1), help="Width of a window."),
)


@command("train")
@dataset_options
@click.option(
    "--out",
    type=FOLDER_OR_ADDRESS,
    required=True,
    help="The run folder to write, here or at s3://, gs://.",
)
@click.option("--epochs", type=click.IntRange(1), help="Chosen from the set's size if left out.")
@click.option(
    "--batch-size",
    type=click.IntRange(1),
    default=32,
    show_default=True,
    help="Clips per step of training by gradient.",
)
@click.option("--resume", is_flag=True, help="Go on where the run in --out stopped.")
@click.option("--local", is_flag=True, help="Train in this process, without Ray.")
@click.option("--workers", type=WorkerCount(), default=1, help="Ray Train workers; MIN:MAX.")
@click.option("--task", type=click.Choice(TASKS), help="Told by the labels if left out.")
@click.option(
    "--policy",
    type=click.Choice(["race", "rule"]),
    default="race",
    show_default=True,
    help="Let front ends race on training clips, or choose one from the profile by rule.",
)
@click.option("--fit", type=click.Choice(["closed", "gradient", "both"]), help=FIT_HELP)
@click.option(
    "--budget",
    type=Budget(),
    default="accuracy",
    show_default=True,
    help="What routing spends: as little as keeps the accuracy of all experts, or latency; a share "
    "of that accuracy (99%), a mean number of experts (1.5), or mean milliseconds (20ms).",
)
@click.option(
    "--backbone",
    "cards",
    type=EXISTING_FILE,
    multiple=True,
    help="Card of a pretrained network that may become an expert; can be given again.",
)
@click.option(
    "--trust",
    multiple=True,
    metavar="NAME",
    help="A card, or a file of it, that may run code when it is opened.",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Of splits, of draws of clips, and of training by gradient.",
)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto")
@click.option("--strict", is_flag=True, help="Make a recording that cannot be read an error.")
@click.option("--no-samples", is_flag=True, help="Keep no test clips in the run to try it with.")
@override_options
def train(*, dataset: Path | str, out: Path | str, **asked: Any) -> Reply:
    """Profile the recordings, choose settings for them, train, and evaluate on the test split.

    Writes everything to --out. With --fit both a run that was fitted in closed form answers before
    a network is trained beside it, which is kept where validation clips say that it pays; --resume
    --fit both does so for an older run. After Ctrl-C --resume continues. Options from --frontend
    on replace a choice of the policy.
    """
    from xmoe.base.progress import show_progress
    from xmoe.pipeline.fit import fit_run
    from xmoe.run.publish import published

    resume: bool = asked["resume"]
    with (
        show_progress(quiet=session().quiet) as progress,
        published(out, resume=resume, progress=progress) as folder,
    ):
        try:
            fit_run(make_request(dataset, folder, asked), progress=progress)
        finally:  # what a run is after Ctrl-C is known only then
            again = f"{repeat_command()} --resume"
            session().resume_hint = f"{say_state(folder)}; go on with: {again}"
        return describe_run(folder, out)


def say_state(out: Path) -> str:
    from xmoe.run.folder import RunFile, RunFolder

    folder = RunFolder(out)
    if not folder.exists("best"):
        return "nothing answers yet"
    if folder.file(RunFile.BY_GRADIENT).is_dir():
        return "the run answers with what was fitted in closed form, and the network if it was kept"
    return "the run so far can be used"


def make_request(dataset: Path | str, out: Path, asked: Mapping[str, Any]) -> FitRequest:
    from xmoe.base.config import TrainConfig
    from xmoe.pipeline.request import FitRequest, read_cards
    from xmoe.policy.policy import PolicyOverrides

    names = PolicyOverrides.model_fields
    wishes = {name: asked[name] for name in names if asked[name] is not None}
    train = {name: asked[name] for name in ("epochs", "batch_size", "seed", "device")}
    train["fit"] = asked["fit"] or ("closed" if asked["epochs"] is None else "gradient")
    request = FitRequest(
        dataset_dir=dataset,
        metadata_csv=asked["metadata"],
        out_dir=out,
        test_fold=asked["test_fold"],
        task=asked["task"],
        budget=asked["budget"],
        fit_by_policy=asked["fit"] is None and asked["epochs"] is None,
        train=TrainConfig(num_workers=asked["workers"], **train),
        policy=asked["policy"],
        overrides=PolicyOverrides(**wishes),
        backbones=read_cards(asked["cards"], asked["trust"]),
        strict=asked["strict"],
        samples=not asked["no_samples"],
        resume=asked["resume"],
    )
    if asked["local"]:
        return request
    from xmoe.jobs.features import run_features
    from xmoe.jobs.profile import run_profile
    from xmoe.jobs.train import train_with_ray

    return replace(request, engine=train_with_ray, profiler=run_profile, measurer=run_features)


def describe_run(run: Path, out: Path | str) -> Reply:
    """The reply of a complete run: figures on the test split, and ``out``, where it is."""
    from xmoe.base.files import read_json
    from xmoe.run.folder import RunFile, RunFolder

    folder = RunFolder(run)
    metrics = read_json(folder.file(RunFile.METRICS))
    fields = {**metrics, "run": out, "metrics": metrics}
    said = read_json(folder.file(RunFile.DATASET)) if folder.file(RunFile.DATASET).is_file() else {}
    notes = [*said.get("notes", ()), *said.get("warnings", ())]
    explained = "explained" if "://" in str(out) else f"{out}/explained"
    lines: list[Any] = [
        metrics_table(metrics, "test split"),
        *filter(None, [mixture_table(metrics)]),
        *(f"note: {note}" for note in notes),
        f"run        {out}",
        f"next: xmoe infer {quote(str(out))} FILE...   or   "
        f"xmoe explain {quote(str(out))} FILE --out {quote(explained)}",
    ]
    return Reply(fields, lines)
