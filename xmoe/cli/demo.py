"""``xmoe demo``: the whole path on recordings that it makes itself, from sound to pictures."""

from __future__ import annotations

import shutil
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xmoe.base.errors import ConfigError
from xmoe.cli.figures import metrics_table, mixture_table
from xmoe.cli.options import FOLDER, command, session
from xmoe.cli.output import Reply, make_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.table import Table

    from xmoe.audio.dataset import Example
    from xmoe.base.progress import Progress
    from xmoe.pipeline.classifier import MoEAudioClassifier

SNR_DB = (-6.0, 12.0)
# Experts a clip on average: enough to show clips that need none, one and more.
BUDGET = 1.5
MARKER = ".xmoe-demo"


@command("demo")
@click.option("--out", type=FOLDER, default=Path("demo"), show_default=True)
@click.option("--clips", type=click.IntRange(80), default=600, show_default=True)
@click.option(
    "--epochs", type=click.IntRange(1), help="Train by gradient; closed form if left out."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
def demo(*, out: Path, clips: int, epochs: int | None, seed: int) -> Reply:
    """Make recordings, profile them, decide, train, evaluate and explain three clips.

    Needs no data and no network; about two minutes on two cores. The mixture may ask one and a half
    experts a clip on average. What a former demo left in --out is replaced.
    """
    from xmoe.base.files import read_json
    from xmoe.base.progress import show_progress
    from xmoe.run.folder import RunFile

    began = time.monotonic()
    run = out / "run"
    clear_former_demo(out)
    with show_progress(quiet=session().quiet) as progress:
        recordings = make_recordings(out / "recordings", clips, seed, progress)
        classifier = train_on(recordings, run, epochs=epochs, seed=seed, progress=progress)
        explained = explain_three(classifier, recordings, run, out / "explained", progress)
    metrics = read_json(run / RunFile.METRICS)
    minutes = (time.monotonic() - began) / 60
    fields = {
        **metrics,
        "run": run,
        "recordings": recordings,
        "explained": explained,
        "minutes": minutes,
    }
    return Reply(
        fields,
        [
            metrics_table(metrics, "test split"),
            *filter(None, [mixture_table(metrics)]),
            _explained_table(explained),
            f"everything: {out} ({minutes:.1f} minutes)",
            f"next: xmoe infer {run} FILE...",
        ],
    )


def clear_former_demo(out: Path) -> None:
    """Make ``out`` an empty folder; ConfigError where it holds anything but a former demo."""
    from xmoe.base.files import write_bytes

    marker = out / MARKER
    if out.exists() and any(out.iterdir()) and not marker.exists():
        mend = "name an empty folder, or one that is not there yet"
        raise ConfigError("the folder holds something else", where=str(out), mend=mend)
    shutil.rmtree(out, ignore_errors=True)
    write_bytes(marker, b"Made by `xmoe demo`, which replaces this folder.\n")


def make_recordings(root: Path, clips: int, seed: int, progress: Progress) -> Path:
    """Write the synthetic set: eight classes of events with known boxes, in noise."""
    from xmoe.audio.synth import SynthConfig, write_dataset

    config = SynthConfig(num_clips=clips, snr_db=SNR_DB, seed=seed)
    return write_dataset(root, config, progress=partial(progress, "synth"))


def train_on(
    recordings: Path, run: Path, *, epochs: int | None, seed: int, progress: Progress
) -> MoEAudioClassifier:
    from xmoe.pipeline.classifier import MoEAudioClassifier

    classifier = MoEAudioClassifier(budget=BUDGET, seed=seed)
    classifier.fit(recordings, out_dir=run, epochs=epochs, progress=progress)
    return classifier


def explain_three(
    classifier: MoEAudioClassifier, recordings: Path, run: Path, out: Path, progress: Progress
) -> list[dict[str, Any]]:
    """Explain three test clips of different K where there are; returns answers and pictures."""
    from xmoe.audio.dataset import load_dataset

    data = load_dataset(recordings)
    explained = []
    for done, example in enumerate(pick_three(data.split("test"), read_k(run)), 1):
        folder = out / Path(example.filepath).stem
        record = classifier.explain(data.path(example), save_dir=folder)
        pictures = [str(folder / name) for name in record["files"]]
        facts = {"label": example.labels[0], "answer": record["answer"], "k": record["k"]}
        explained.append({"file": example.filepath, **facts, "pictures": pictures})
        progress("explain", done, 3)
    return explained


def read_k(run: Path) -> dict[str, float]:
    """How many experts each test clip asked, by its id; empty where that is not known."""
    import pyarrow.parquet as pq

    from xmoe.run.folder import RunFile

    path = run / RunFile.TRACES
    if not path.is_file():
        return {}
    table = pq.read_table(path, columns=["clip_id", "k"]).to_pydict()
    return dict(zip(table["clip_id"], table["k"], strict=True))


def pick_three(examples: Sequence[Example], k: Mapping[str, float]) -> list[Example]:
    """Three clips of three classes: one that asked no expert, one that asked one, one more.

    Where there is none such, the first clip of another class takes the place.
    """
    picked: list[Example] = []
    for least, most in ((0.0, 0.0), (1.0, 1.0), (2.0, float("inf"))):
        fresh = [one for one in examples if one.labels[0] not in {p.labels[0] for p in picked}]
        fitting = [one for one in fresh if least <= k.get(one.clip_id, -1.0) <= most]
        picked += (fitting or fresh)[:1]
    return picked


def _explained_table(explained: list[dict[str, Any]]) -> Table:
    rows = [
        (row["label"], row["answer"], str(row["k"]), Path(row["pictures"][0]).parent)
        for row in explained
    ]
    return make_table("three clips explained", ("label", "answer", "K", "pictures"), rows)
