"""``xmoe tune``: recordings -> settings that were tried on them, accuracy against cost."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xmoe.cli.options import (
    EXISTING_FILE,
    EXISTING_FOLDER,
    FOLDER,
    Budget,
    command,
    repeat_command,
    session,
)
from xmoe.cli.output import Reply, make_table
from xmoe.cli.train import FRONTENDS

if TYPE_CHECKING:
    from xmoe.base.progress import Progress
    from xmoe.tuning.pareto import TuneResult
    from xmoe.tuning.search import SearchFolder, SearchRequest


class FrontendNames(click.ParamType):  # type: ignore[type-arg]  # generic since 8.4
    """Front ends with commas between."""

    name = "NAME,..."

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        names = tuple(dict.fromkeys(part.strip() for part in str(value).split(",")))
        if unknown := [name for name in names if name not in FRONTENDS]:
            self.fail(f"{', '.join(map(repr, unknown))}: known are {', '.join(FRONTENDS)}", param)
        return names


@command("tune")
@click.option("--dataset", type=EXISTING_FOLDER, required=True, help="Folder of recordings.")
@click.option("--metadata", type=EXISTING_FILE, help="The manifest; found by itself if left out.")
@click.option("--out", type=FOLDER, required=True, help="The folder of the search.")
@click.option("--trials", type=click.IntRange(1), default=12, show_default=True, help="In all.")
@click.option("--epochs", type=click.IntRange(1), help="Per trial; as many as `train` if left out.")
@click.option("--batch-size", type=click.IntRange(1), default=32, show_default=True)
@click.option("--frontends", type=FrontendNames(), default="logmel,pcen,stft", show_default=True)
@click.option("--max-mmac", type=click.FloatRange(0, min_open=True), help="Most MMAC per segment.")
@click.option(
    "--max-latency-ms",
    type=click.FloatRange(0, min_open=True),
    help="Most milliseconds per segment on one thread; time is then the cost instead of MMAC.",
)
@click.option("--budget", type=Budget(), default="accuracy", show_default=True)
@click.option("--test-fold", type=int, help="Which fold is the test set, where folds are given.")
@click.option("--resume", is_flag=True, help="Go on with the search in --out.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto")
def tune(*, out: Path, trials: int, resume: bool, **asked: Any) -> Reply:
    """Try front ends, resolutions, experts, K, windows and learning rates on the recordings.

    Optuna suggests for two aims, accuracy on validation and cost; Ray Tune runs the trials side by
    side and stops early what lags. Writes trials.jsonl, pareto.png and settings.json, which
    `xmoe train --settings` takes. The test split is not used. After Ctrl-C, or any other end,
    --resume continues; with more --trials it extends a complete search.
    """
    from xmoe.base.progress import show_progress
    from xmoe.jobs.suggest import check_installed
    from xmoe.tuning.search import SearchFolder

    session().resume_hint = f"finished trials are kept; go on with: {repeat_command()} --resume"
    check_installed()
    request, folder = make_request(asked), SearchFolder(out)
    with folder.claim():
        folder.begin(request, resume=resume)
        with show_progress(quiet=session().quiet) as progress:
            results = run_search(folder, request, trials, progress)
        chosen = folder.finish(request, results)
    return describe_search(folder, request, results, chosen)


def make_request(asked: dict[str, Any]) -> SearchRequest:
    from xmoe.base.config import TrainConfig
    from xmoe.tuning.search import SearchRequest
    from xmoe.tuning.space import SearchSpace

    most_mmac, most_ms = asked["max_mmac"], asked["max_latency_ms"]
    if most_mmac is not None and most_ms is not None:
        raise click.UsageError("give --max-mmac or --max-latency-ms, not both")
    metadata: Path | None = asked["metadata"]
    train = {name: asked[name] for name in ("epochs", "batch_size", "seed", "device")}
    return SearchRequest(
        dataset=str(asked["dataset"].resolve()),
        metadata=None if metadata is None else str(metadata.resolve()),
        test_fold=asked["test_fold"],
        space=SearchSpace.model_validate({"frontends": asked["frontends"]}),
        train=TrainConfig(**train),
        budget=asked["budget"],
        cost="mmac" if most_ms is None else "latency_ms",
        most=most_mmac or most_ms,
    )


def run_search(
    folder: SearchFolder, request: SearchRequest, trials: int, progress: Progress
) -> list[TuneResult]:
    from xmoe.jobs.profile import run_profile
    from xmoe.jobs.tune import search
    from xmoe.pipeline.decide import check_readable, read_checked
    from xmoe.pipeline.request import FitRequest
    from xmoe.tuning.trial import TrialSetting, begin_policy

    work = folder.work.resolve()
    asked = FitRequest(
        dataset_dir=Path(request.dataset),
        metadata_csv=None if request.metadata is None else Path(request.metadata),
        out_dir=work,
        test_fold=request.test_fold,
        train=request.train,
    )
    data = read_checked(asked, progress=progress)
    found = run_profile(data, progress=progress)
    data, _ = check_readable(data, found)
    folder.check_recordings(found.hashes)
    setting = TrialSetting(data, found.profile, work, request.train, request.budget)
    policy = begin_policy(setting, request.space)
    return search(folder, request, setting, policy, trials=trials, progress=progress)


def describe_search(
    folder: SearchFolder, request: SearchRequest, results: list[TuneResult], chosen: TuneResult
) -> Reply:
    from xmoe.tuning.pareto import find_front
    from xmoe.tuning.search import PICTURE, SETTINGS, describe_choice

    front = find_front(results, request.cost)
    rows = [describe_row(one, chosen=one is chosen) for one in front]
    columns = ("trial", "front end", "experts", "K max", "window", "rate", "accuracy", "mean K")
    settings, picture = folder.path / SETTINGS, folder.path / PICTURE
    lines: list[Any] = [
        make_table(f"{len(results)} trials; none beats these", (*columns, "MMAC", "ms"), rows),
        describe_choice(chosen, results, request),
        f"trials     {folder.trials}",
        f"picture    {picture}",
        f"settings   {settings}",
        f"next: {train_command(request, chosen, settings)} --out RUN",
    ]
    fields = {
        "out": folder.path,
        "trials": results,
        "front": [one.number for one in front],
        "chosen": chosen,
        "files": {"trials": folder.trials, "picture": picture, "settings": settings},
    }
    return Reply(fields, lines)


def describe_row(one: TuneResult, *, chosen: bool) -> tuple[str, ...]:
    settings = one.candidate
    return (
        f"{one.number}{' *' if chosen else ''}",
        f"{settings.frontend} {settings.num_bins}",
        str(settings.num_experts),
        str(settings.k_max),
        str(settings.window_frames),
        f"{settings.learning_rate:.2g}",
        f"{one.accuracy:.1%}",
        f"{one.mean_k:.2f}",
        f"{one.mmac:.2f}",
        f"{one.latency_ms:.1f}",
    )


def train_command(request: SearchRequest, chosen: TuneResult, settings: Path) -> str:
    """The command that trains with the choice as the trials were trained."""
    from xmoe.base.config import TrainConfig
    from xmoe.tuning.trial import fit_budget

    words = ["xmoe", "train", "--dataset", request.dataset]
    given = {
        "--metadata": (request.metadata, None),
        "--test-fold": (request.test_fold, None),
        "--budget": (fit_budget(request.budget, chosen.candidate.k_max), "accuracy"),
        "--batch-size": (request.train.batch_size, TrainConfig().batch_size),
        "--seed": (request.train.seed, TrainConfig().seed),
    }
    for option, (value, usual) in given.items():
        words += [] if value == usual else [option, str(value)]
    return shlex.join([*words, "--settings", str(settings)])
