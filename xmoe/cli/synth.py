"""``xmoe synth``: a seed -> a labelled set of recordings whose events lie in known boxes."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from xmoe.base.errors import ConfigError
from xmoe.cli.options import FOLDER, FiniteRange, Range, command, session
from xmoe.cli.output import Reply


@command("synth")
@click.argument("folder", type=FOLDER)
@click.option("--clips", "num_clips", type=click.IntRange(1), default=1000, show_default=True)
@click.option("--classes", type=click.IntRange(2, 8), default=8, show_default=True)
@click.option("--sparse", is_flag=True, help="Short events in clips of 5 s.")
@click.option("--duration", "duration_s", type=float, help="Seconds per clip.")
@click.option("--event", "event_s", type=Range("seconds"), help="Length of events in seconds.")
@click.option(
    *("--rate", "sample_rates_hz"),
    type=click.IntRange(4000, 384_000),
    multiple=True,
    default=(16_000,),
    show_default=True,
    help="Sample rate in Hz; may be given several times.",
)
@click.option(
    *("--snr", "snr_db"),
    type=Range("dB", lowest=-100.0),
    default=(-18.0, 8.0),
    show_default="-18:8",
    help="Signal-to-noise ratios in dB.",
)
@click.option("--clipped", "clipped_fraction", type=FiniteRange(0, 1), default=0.0)
@click.option("--band-limited", "band_limited_fraction", type=FiniteRange(0, 1), default=0.0)
@click.option("--bursts", "max_bursts", type=click.IntRange(0), default=0, help="Per clip, most.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--force", is_flag=True, help="Write over a set that is already there.")
def synth(*, folder: Path, force: bool, **settings: Any) -> Reply:
    """Write a synthetic set of labelled recordings to FOLDER.

    Eight kinds of events (chirps, click trains, harmonic stacks, band noise, tonal lines and
    others) in noise. metadata.csv names splits and labels, boxes.csv where each event lies in time
    and frequency. The same seed gives the same bytes.
    """
    from xmoe.audio.synth import SynthConfig, write_dataset
    from xmoe.base.progress import show_progress

    config = SynthConfig(**settings)
    if (folder / "metadata.csv").exists() and not force:
        mend = "name another folder, or write over it with --force"
        raise ConfigError("there is already a data set", where=str(folder), mend=mend)
    with show_progress(quiet=session().quiet) as progress:
        root = write_dataset(folder, config, progress=partial(progress, "synth"))
    fields = {
        "dataset": root,
        "metadata": root / "metadata.csv",
        "boxes": root / "boxes.csv",
        "clips": config.num_clips,
        "classes": config.labels,
    }
    line = f"{config.num_clips} clips of {len(config.labels)} classes in {root}"
    return Reply(fields, [line, f"next: xmoe train --dataset {root} --out runs/{root.name}"])
