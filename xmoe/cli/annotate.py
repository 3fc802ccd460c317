"""``xmoe infer --hop``: a run folder + recordings of any length -> events in time, as files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import click

from xmoe.base.errors import AudioError, ConfigError
from xmoe.cli.edge import EXIT_INPUT, EXIT_OK
from xmoe.cli.options import EXISTING_FILE, FiniteRange, all_of, session
from xmoe.cli.output import Reply, make_table

if TYPE_CHECKING:
    from rich.table import Table

    from xmoe.annotate.recording import Annotated
    from xmoe.audio.reading import Reading
    from xmoe.base.config import Device
    from xmoe.base.progress import Progress
    from xmoe.predict.predictor import Predictor

FORMATS = ("csv", "jsonl", "parquet", "raven", "audacity")
MOST_THREADS = 4  # by default
_PROBABILITY, _SECONDS = FiniteRange(0.0, 1.0), FiniteRange(0.0)


class EventOptions(TypedDict):
    """Command-line options on events; ``None`` leaves a value to the run."""

    hop: float | None
    output: str | None
    formats: tuple[str, ...]
    threshold: float | None
    keep: float | None
    min_duration: float | None
    max_gap: float | None
    background: tuple[str, ...]
    truth: Path | None
    windows: bool
    picture: bool
    threads: int | None
    wake: float | None
    reading: Reading


# Options of long recordings; all but ``--hop`` need ``--hop``.
event_options = all_of(
    click.option(
        "--hop",
        type=FiniteRange(0.0, min_open=True),
        help="Seconds between windows: write the events of long recordings to files.",
    ),
    click.option("--threshold", type=_PROBABILITY, help="For every class; else the run's."),
    click.option(
        "--keep", type=_PROBABILITY, help="Share of the threshold that continues an event."
    ),
    click.option("--min-duration", type=_SECONDS, help="Shortest event in seconds."),
    click.option("--max-gap", type=_SECONDS, help="Events this close together are one."),
    click.option("--background", multiple=True, help="A class that is no event; may be repeated."),
    click.option("--truth", type=EXISTING_FILE, help="Known events: print F1 against them."),
    click.option("--windows", is_flag=True, help="Write every window's answer as Parquet."),
    click.option("--picture/--no-picture", default=True, help="Draw the whole recording."),
    click.option("--threads", type=click.IntRange(1), help="Windows answered side by side."),
    click.option(
        "--wake",
        type=_PROBABILITY,
        help="Let pretrained networks hear only what is an event with this chance, by the "
        "answers of the others; for example 0.2.",
    ),
)


def annotate_files(
    run: Path, files: Sequence[Path], options: EventOptions, device: Device
) -> Reply:
    """Write the events of each recording; an unreadable one costs only itself."""
    from xmoe.annotate.naming import choose_stems
    from xmoe.base.device import choose_device
    from xmoe.base.progress import show_progress
    from xmoe.predict.predictor import Predictor

    check_files(files, options)
    predictor = Predictor.load(run, device=choose_device(device))
    out = Path(options["output"]) if options["output"] else run / "annotations"
    recordings: list[dict[str, Any]] = []
    with show_progress(quiet=session().quiet) as progress:
        for path, stem in zip(files, choose_stems(out, files), strict=True):
            try:
                base = out / stem
                recordings.append(annotate_file(run, predictor, path, base, options, progress))
            except AudioError as error:
                recordings.append({"file": str(path), "code": error.code, **error.as_dict()})
    failed = sum("error" in row for row in recordings)
    fields = {"ok": not failed, "run": run, "recordings": recordings, "failed": failed}
    shown: list[Any] = [recordings_table(recordings)]
    shown += [line for row in recordings for line in _lines(row)]
    return Reply(fields, shown, EXIT_INPUT if failed else EXIT_OK)


def check_files(files: Sequence[Path], options: EventOptions) -> None:
    """Raise ConfigError where events have no folder, or ``--truth`` has not one recording."""
    if "://" in (options["output"] or ""):
        what = f"{options['output']} is an address; events are written to a folder of this machine"
        raise ConfigError(what, where="--out", mend="name a folder and copy the files from there")
    if options["truth"] is not None and len(files) != 1:
        what = f"--truth is of one recording, {len(files)} were named"
        raise ConfigError(what, where="--truth", mend="name one recording")


def annotate_file(
    run: Path,
    predictor: Predictor,
    path: Path,
    base: Path,
    options: EventOptions,
    progress: Progress,
) -> dict[str, Any]:
    """Write the events of a recording and its picture to ``base`` and endings.

    Returns its part of the reply.
    """
    from xmoe.annotate.export import event_rows, write_events
    from xmoe.annotate.naming import note_recording
    from xmoe.annotate.recording import AnnotateOptions, annotate_recording, merge_rules
    from xmoe.annotate.thresholds import background_of, read_thresholds
    from xmoe.base.files import write_bytes
    from xmoe.pictures.style import to_png
    from xmoe.run.folder import RunFolder

    classes = predictor.config.classes
    thresholds = read_thresholds(RunFolder(run), classes)
    background = background_of(classes, options["background"]) if options["background"] else None
    rules = merge_rules(
        thresholds,
        threshold=options["threshold"],
        keep=options["keep"],
        min_duration_s=options["min_duration"],
        max_gap_s=options["max_gap"],
        background=background,
    )
    threads = options["threads"] or min(MOST_THREADS, os.cpu_count() or 1)
    formats: Any = tuple(dict.fromkeys(options["formats"])) or ("csv",)
    formats = FORMATS if "all" in formats else formats
    out, stem = base.parent, base.name
    asked = AnnotateOptions(
        hop_s=options["hop"] or 0.0,
        rules=rules,
        threads=threads,
        reading=options["reading"],
        wake=options["wake"],
    )
    done = annotate_recording(
        predictor,
        path,
        asked,
        windows_to=out / f"{stem}.windows.parquet" if options["windows"] else None,
        progress=progress,
    )
    rows = event_rows(
        done.events, file=str(path), sample_rate_hz=done.grid.sample_rate_hz, field=done.field
    )
    spectro = predictor.config.spectro
    files = write_events(
        out,
        rows,
        stem=stem,
        formats=formats,
        band_hz=(spectro.fmin_hz, spectro.fmax_hz),
        time_expansion=options["reading"].time_expansion,
    )
    note_recording(out, stem, path)
    if options["picture"]:
        files["picture"] = out / f"{stem}.png"
        write_bytes(files["picture"], to_png(done.draw(stem)))
    fields = describe_recording(path, done, rules.background)
    fields["thresholds"] = {name: rules.threshold_of(name) for name in classes}
    if options["truth"] is not None:
        fields["scores"] = score_against(done, options["truth"], rules.background)
    return {**fields, "files": {name: str(file) for name, file in files.items()}}


def describe_recording(path: Path, done: Annotated, background: Any) -> dict[str, Any]:
    from collections import Counter

    by_label = Counter(event.label for event in done.events)
    rate = done.grid.sample_rate_hz
    return {
        "file": str(path),
        "duration_s": done.duration_s,
        "sample_rate_hz": rate,
        "windows": done.windows,
        "window_s": done.grid.length / rate,
        "hop_s": done.grid.hop / rate,
        "events": len(done.events),
        "by_label": dict(sorted(by_label.items())),
        "background": list(background),
        "mean_k": done.mean_k,
        "woken": done.woken,
        "seconds": done.seconds,
        "real_time_factor": done.seconds / done.duration_s,
        "notes": done.notes(),
        "warnings": list(done.warnings),
    }


def score_against(done: Annotated, truth: Path, background: Any) -> dict[str, Any]:
    """Event-based figures against known events; background is no event."""
    from xmoe.audio.annotations import read_annotations
    from xmoe.metrics.events import COLLAR_S, MIN_OVERLAP, Span, score_onsets, score_overlap

    known = [
        Span(one.start_s, one.end_s, one.label)
        for one in read_annotations(truth)
        if one.label not in background
    ]
    found = [Span(event.start_s, event.end_s, event.label) for event in done.events]
    return {
        "overlap": {"min_overlap": MIN_OVERLAP, **score_overlap(found, known).as_dict()},
        "onset": {"collar_s": COLLAR_S, **score_onsets(found, known).as_dict()},
    }


def recordings_table(recordings: Sequence[dict[str, Any]]) -> Table:
    cells = []
    for row in recordings:
        if "error" in row:
            cells.append((row["file"], "-", "-", "-", row["what"]))
            continue
        speed = f"{row['seconds']:.1f} s ({1 / max(row['real_time_factor'], 1e-9):.0f} x)"
        counts = (str(row["windows"]), str(row["events"]))
        cells.append((row["file"], f"{row['duration_s']:.1f} s", *counts, speed))
    return make_table("", ("file", "length", "windows", "events", "took"), cells)


def _lines(row: dict[str, Any]) -> list[str]:
    if "error" in row:
        return [f"{row['file']}: {row['mend']}"] if row["mend"] else []
    lines = [f"{name}: {count}" for name, count in row["by_label"].items()]
    if row["background"]:
        lines.append(f"no event: {', '.join(row['background'])}")
    lines += [f"note: {row['file']}: {warning}" for warning in row["warnings"]]
    lines += [f"note: {note}" for note in row["notes"]]
    for name, score in row.get("scores", {}).items():
        figures = ", ".join(f"{key} {score[key]:.3f}" for key in ("f1", "precision", "recall"))
        lines.append(f"{name}: {figures} ({score['hits']} of {score['there']} events)")
    return lines + [f"{kind}: {path}" for kind, path in row["files"].items()]
