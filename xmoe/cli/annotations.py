"""``xmoe annotations``: long recordings with Raven or Audacity labels -> a training set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xmoe.base.errors import ConfigError
from xmoe.cli.options import EXISTING_FOLDER, FOLDER, FiniteRange, command, session
from xmoe.cli.output import Reply, make_table

if TYPE_CHECKING:
    from rich.table import Table

    from xmoe.audio.clip_set import ClipSet

SPLITS = ("train", "val", "test")


@command("annotations")
@click.argument("folder", type=EXISTING_FOLDER)
@click.option("--out", type=FOLDER, required=True, help="Where to write the set.")
@click.option(
    "--background",
    help="Cut clips of this label where nothing is annotated; a classifier of long recordings "
    "needs them.",
)
@click.option(
    "--background-ratio",
    type=FiniteRange(0.0, min_open=True),
    default=1.0,
    show_default=True,
    help="Clips of background for each clip of an event.",
)
@click.option(
    "--clip",
    "clip_s",
    type=FiniteRange(0.05, 60.0),
    help="Seconds per clip; from the events' lengths if left out.",
)
@click.option("--label-column", help="The column of the labels, where it has an unusual name.")
@click.option(
    "--held-out",
    type=FiniteRange(0.0, 0.45, min_open=True),
    default=0.15,
    show_default=True,
    help="Share of the clips in val, and in test; recordings stay whole.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--force", is_flag=True, help="Write over a set that is already there.")
def cut_annotations(
    *, folder: Path, out: Path, label_column: str | None, force: bool, **settings: Any
) -> Reply:
    """Cut the annotated events of the recordings in FOLDER into a training set.

    Beside each recording, or elsewhere in FOLDER, lies a Raven selection table, an Audacity label
    track or a table with start_s, end_s and label, named after it. Recordings without one are left
    out; an empty one says that the recording holds no event. No recording is in two splits.
    """
    from xmoe.audio.annotated import read_annotated
    from xmoe.audio.clip_set import ClipSetOptions, write_clip_set
    from xmoe.base.progress import show_progress

    if (out / "metadata.csv").exists() and not force:
        mend = "name another folder, or write over it with --force"
        raise ConfigError("there is already a data set", where=str(out), mend=mend)
    if out.resolve().is_relative_to(folder.resolve()):
        mend = "write the set elsewhere, or its clips are taken for recordings next time"
        raise ConfigError(f"is inside {folder}, which is read", where=str(out), mend=mend)
    found = read_annotated(folder, label_column=label_column)
    with show_progress(quiet=session().quiet) as progress:
        written = write_clip_set(found, out, ClipSetOptions(**settings), progress=progress)
    notes = [*written.notes, *_advise(settings["background"])]
    fields = {
        "ok": True,
        "dataset": out,
        "metadata": out / "metadata.csv",
        "recordings": len(found.recordings),
        "clips": sum(written.counts.values()),
        "clip_s": written.clip_s,
        "counts": _by_split(written),
        "notes": notes,
    }
    shown: list[Any] = [counts_table(written), *(f"note: {note}" for note in notes)]
    shown.append(f"{fields['clips']} clips of {written.clip_s:g} s in {out}")
    return Reply(fields, [*shown, f"next: xmoe train --dataset {out} --out runs/{out.name}"])


def _by_split(written: ClipSet) -> dict[str, dict[str, int]]:
    return {
        split: {label: n for (name, label), n in written.counts.items() if name == split}
        for split in SPLITS
    }


def _advise(background: str | None) -> list[str]:
    from xmoe.annotate.thresholds import BACKGROUND_NAMES

    if background is None:
        return ["without --background every window of a long recording gets the name of an event"]
    if background.lower() not in BACKGROUND_NAMES:
        return [f"say that it is no event: xmoe infer RUN FILE --hop H --background {background}"]
    return []


def counts_table(written: ClipSet) -> Table:
    labels = sorted({label for _, label in written.counts})
    cells = [
        (label, *(str(written.counts.get((split, label), 0)) for split in SPLITS))
        for label in labels
    ]
    return make_table("", ("label", *SPLITS), cells)
