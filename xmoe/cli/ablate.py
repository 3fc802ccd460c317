"""``xmoe ablate``: does saliency matter for routing? One set of experts, many routers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xmoe.cli.options import EXISTING_FILE, EXISTING_FOLDER, FOLDER, command, session
from xmoe.cli.output import Reply, make_table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.table import Table

    from xmoe.base.progress import Progress

SHOWN = ("mean K 0.5", "mean K 1", "mean K 2", "K=1")


class Names(click.ParamType):  # type: ignore[type-arg]  # generic since 8.4
    """Names with commas between."""

    name = "NAME,..."

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, ...]:
        """Return the names; which exist is checked where they are looked up."""
        if isinstance(value, tuple):
            return value
        names = tuple(part.strip() for part in str(value).split(",") if part.strip())
        if not names:
            self.fail(f"{value!r} names nothing", param)
        return names


class Seeds(Names):
    """Whole numbers from 0 up with commas between."""

    name = "N,..."

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, ...]:  # type: ignore[override]
        """Return the seeds, each once."""
        texts = super().convert(value, param, ctx)
        if not all(str(text).isdigit() for text in texts):
            self.fail(f"{value!r} is not whole numbers from 0 up with commas between", param)
        return tuple(dict.fromkeys(int(text) for text in texts))


@command("ablate")
@click.option("--dataset", type=EXISTING_FOLDER, help="Folder of recordings.")
@click.option("--metadata", type=EXISTING_FILE, help="The manifest; found by itself if left out.")
@click.option("--synthetic", "clips", type=click.IntRange(100), help="Make a set of so many clips.")
@click.option("--sparse", is_flag=True, help="Short events in clips of 5 s (with --synthetic).")
@click.option("--out", type=FOLDER, required=True, help="Where to write, and to go on.")
@click.option("--seeds", type=Seeds(), default="0,1,2", show_default=True)
@click.option("--arms", type=Names(), help="Which routers to compare; all if left out.")
@click.option("--epochs", type=click.IntRange(1), help="Chosen from the set's size if left out.")
@click.option("--steps", type=click.IntRange(1), default=300, show_default=True, help="Per router.")
@click.option("--samples", type=click.IntRange(1), default=4096, show_default=True)
@click.option("--test-fold", type=int, help="Which fold is the test set, where folds are given.")
@click.option("--policy", type=click.Choice(["race", "rule"]), default="race", show_default=True)
@click.option("--title", default="", help="Heading of the picture.")
def ablate(
    *, dataset: Path | None, clips: int | None, sparse: bool, out: Path, **settings: Any
) -> Reply:
    """Compare routers at equal compute: with saliency, without it, with that of another clip ...

    Trains one mixture per seed as `xmoe train` does, keeps its stem and experts fixed, fits the
    router of every arm to the same --samples crops for the same --steps, and compares accuracy on
    test clips at the same mean number of experts. What is finished in --out is not done again.
    """
    from xmoe.ablation.study import run_study
    from xmoe.base.progress import show_progress

    if (dataset is None) == (clips is None):
        raise click.UsageError("name either --dataset or --synthetic")
    again = f"xmoe ablate with the same options goes on where this stopped (--out {out})"
    session().resume_hint = again
    with show_progress(quiet=session().quiet) as progress:
        if clips is not None:
            dataset = make_synthetic(out / "recordings", clips, sparse=sparse, progress=progress)
        assert dataset is not None
        result = run_study(make_study(dataset, out, settings), progress=progress)
    return describe_study(result, out)


def make_synthetic(root: Path, clips: int, *, sparse: bool, progress: Progress) -> Path:
    """Write the synthetic set, unless the same one is there."""
    from functools import partial

    from xmoe.audio.synth import SynthConfig, write_dataset
    from xmoe.base.errors import ConfigError
    from xmoe.base.files import read_json, write_json

    wanted, note = {"clips": clips, "sparse": sparse}, root / "synthetic.json"
    if note.is_file():
        if read_json(note) != wanted:
            mend = "name another folder with --out"
            raise ConfigError("another synthetic set is there", where=str(root), mend=mend)
        return root
    config = SynthConfig(num_clips=clips, sparse=sparse)
    write_dataset(root, config, progress=partial(progress, "synth"))
    write_json(note, wanted)
    return root


def make_study(dataset: Path, out: Path, settings: Mapping[str, Any]) -> Any:
    """Return the study that the command's options describe."""
    from xmoe.ablation.arms import ARMS, find_arms
    from xmoe.ablation.study import Study
    from xmoe.base.config import TrainConfig
    from xmoe.pipeline.request import FitRequest

    recordings = FitRequest(
        dataset_dir=dataset,
        metadata_csv=settings["metadata"],
        out_dir=out,
        test_fold=settings["test_fold"],
        train=TrainConfig(epochs=settings["epochs"], device="cpu"),
        policy=settings["policy"],
    )
    return Study(
        set=recordings,
        seeds=settings["seeds"],
        arms=find_arms(settings["arms"] or tuple(ARMS)),
        steps=settings["steps"],
        samples=settings["samples"],
        title=settings["title"],
    )


def describe_study(result: Mapping[str, Any], out: Path) -> Reply:
    """Return the reply: accuracy by arm, differences, and windows."""
    files = [out / f"ablation.{kind}" for kind in ("json", "csv", "png")]
    fields = {**result, "out": out}
    return Reply(fields, [arms_table(result), windows_table(result), *map(str, files)])


def arms_table(result: Mapping[str, Any]) -> Table:
    """Return one row per arm: accuracy at equal compute, and what it is more than the reference."""
    table: dict[str, dict[str, Any]] = {}
    for row in result["equal_compute"]:
        if row["condition"] == "test" and row["target"] in SHOWN:
            table.setdefault(row["arm"], {})[row["target"]] = row
    targets = [target for target in SHOWN if target in next(iter(table.values()))]
    rows = [
        (name, *(cell for target in targets for cell in _cells(by_target[target])))
        for name, by_target in table.items()
    ]
    columns = [column for target in targets for column in (f"{target}, %", "more [95 %]")]
    seeds, clips = len(result["seeds"]), result["clips"]["test"]
    title = f"{result['title']}: accuracy on {clips} test clips, {seeds} seeds"
    return make_table(title, ("router", *columns), rows)


def _cells(row: Mapping[str, Any]) -> tuple[str, str]:
    value, difference = 100 * row["accuracy"]["value"], row["difference"]
    low, high = (100 * end for end in difference["ci"])
    return f"{value:.1f}", f"{100 * difference['value']:+.1f} [{low:+.1f}, {high:+.1f}]"


def windows_table(result: Mapping[str, Any]) -> Table:
    """Return one row per share of windows: accuracy by selector at the same expert compute."""
    table: dict[float, dict[str, Any]] = {}
    for row in result["windows"]:
        table.setdefault(row["fraction"], {})[row["selector"]] = row
    names = list(next(iter(table.values())))
    columns = [column for name in names for column in (f"{name}, %", "more [95 %]")]
    rows = [
        (f"{fraction:g}", *(cell for name in names for cell in _cells(row[name])))
        for fraction, row in table.items()
    ]
    return make_table("windows picked by, K = K_max", ("share", *columns), rows)
