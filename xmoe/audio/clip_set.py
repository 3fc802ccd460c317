"""Annotated recordings -> a training set: clips as files, and ``metadata.csv`` with splits.

No recording is in two splits, because its clips share noise, site and animals. The same folder and
seed give the same bytes.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile as sf

from xmoe.audio.annotated import AnnotatedFolder, Recording
from xmoe.audio.clip import read_clip
from xmoe.audio.cuts import Cut, cut_events, list_free, share_out, suggest_clip_s
from xmoe.audio.splits import hold_out
from xmoe.base.errors import DatasetError
from xmoe.base.files import storage_errors, to_csv, write_bytes
from xmoe.base.progress import Progress, silent

COLUMNS = ("filepath", "split", "label", "group", "begins_s", "ends_s")


@dataclass(frozen=True)
class ClipSetOptions:
    """How clips are cut and split.

    ``clip_s`` is their length, chosen from the events if None. ``background`` is the label of clips
    cut where nothing is annotated, ``background_ratio`` their number per clip of an event.
    ``held_out`` is the share of val, and of test.
    """

    clip_s: float | None = None
    background: str | None = None
    background_ratio: float = 1.0
    held_out: float = 0.15
    seed: int = 0


@dataclass(frozen=True)
class ClipSet:
    """What was written: clips by (split, label), and notes in plain words."""

    root: Path
    clip_s: float
    counts: dict[tuple[str, str], int]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Planned:
    recording: Recording
    cuts: list[Cut]


def write_clip_set(
    folder: AnnotatedFolder, out: Path, options: ClipSetOptions, *, progress: Progress = silent
) -> ClipSet:
    """Cut the clips of every recording into ``out/audio``, then write ``metadata.csv``.

    Raises ``DatasetError`` if nothing can be cut or split, ``AudioError``, ``StorageError``.
    """
    events = [one for recording in folder.recordings for one in recording.annotations]
    clip_s = options.clip_s or suggest_clip_s(events)
    notes = list(folder.notes)
    planned = plan_clips(folder.recordings, clip_s, options, notes)
    splits = split_recordings(planned, options, notes)
    rows: list[tuple[object, ...]] = []
    for done, (plan, split) in enumerate(zip(planned, splits, strict=True), 1):
        rows += [_write_clip(plan.recording, cut, i, out, split) for i, cut in enumerate(plan.cuts)]
        progress("cut", done, len(planned), plan.recording.name)
    write_bytes(out / "metadata.csv", to_csv([COLUMNS, *rows]))
    counts = Counter((str(row[1]), str(row[2])) for row in rows)
    return ClipSet(out, clip_s, dict(sorted(counts.items())), tuple(notes))


def plan_clips(
    recordings: Sequence[Recording], clip_s: float, options: ClipSetOptions, notes: list[str]
) -> list[_Planned]:
    """The clips of each recording that has any, events first, then background."""
    planned, mixed = [], 0
    rngs = [_rng(recording, options.seed) for recording in recordings]
    for recording, rng in zip(recordings, rngs, strict=True):
        cuts, left_out = cut_events(recording.annotations, recording.info, clip_s, rng)
        planned.append(_Planned(recording, cuts))
        mixed += left_out
    if mixed:
        notes.append(f"left out: {mixed} events in which another label sounds within {clip_s:g} s")
    if options.background is not None:
        _add_background(planned, rngs, clip_s, options)
    if not any(plan.cuts for plan in planned):
        mend = "annotate some, or name --background to cut clips of background"
        raise DatasetError("there is no event to cut", where=str(recordings[0].path), mend=mend)
    return [plan for plan in planned if plan.cuts]


def _add_background(
    planned: Sequence[_Planned],
    rngs: Sequence[np.random.Generator],
    clip_s: float,
    options: ClipSetOptions,
) -> None:
    """Add clips of background, from each recording in proportion to its free time."""
    free = [list_free(plan.recording.annotations, plan.recording.info, clip_s) for plan in planned]
    wanted = round(options.background_ratio * max(1, sum(len(plan.cuts) for plan in planned)))
    numbers = share_out(wanted, [len(places) for places in free])
    for plan, rng, places, number in zip(planned, rngs, free, numbers, strict=True):
        length = round(clip_s * plan.recording.info.sample_rate_hz)
        for start in sorted(rng.permutation(places)[:number].tolist()):
            plan.cuts.append(Cut(start, start + length, options.background or ""))


def split_recordings(
    planned: Sequence[_Planned], options: ClipSetOptions, notes: list[str]
) -> list[str]:
    """The split of each recording; every class is in each if it has enough recordings."""
    splits = np.full(len(planned), "train", dtype=object)
    for name in ("test", "val"):
        left = np.flatnonzero(splits == "train").tolist()
        pairs = [(i, (cut.label,)) for i in left for cut in planned[i].cuts]
        held = hold_out(
            [planned[i].recording.name for i, _ in pairs],
            [label for _, label in pairs],
            fraction=options.held_out,
            seed=options.seed,
        )
        for (i, _), taken in zip(pairs, held, strict=True):
            if taken:
                splits[i] = name
    _check_splits(planned, splits.tolist(), notes)
    return list(splits)


def _check_splits(planned: Sequence[_Planned], splits: Sequence[str], notes: list[str]) -> None:
    there: dict[str, set[str]] = {}
    for plan, split in zip(planned, splits, strict=True):
        for cut in plan.cuts:
            there.setdefault(cut.label, set()).add(split)
    for name in ("train", "val", "test"):
        if name not in splits:
            what = f"no recording is left for {name}: {len(planned)} have clips"
            mend = (
                "annotate at least three recordings of each class; clips of one recording are "
                "never in two splits"
            )
            raise DatasetError(what, where=str(planned[0].recording.path.parent), mend=mend)
    for label, found in sorted(there.items()):
        if missing := [name for name in ("train", "val", "test") if name not in found]:
            notes.append(f"{label} is not in {' and '.join(missing)}: too few recordings hold it")


def _write_clip(
    recording: Recording, cut: Cut, index: int, out: Path, split: str
) -> tuple[object, ...]:
    """Write one clip, sample for sample, and return its row of the manifest."""
    rate = recording.info.sample_rate_hz
    begins_s, ends_s = cut.start / rate, cut.end / rate
    clip = read_clip(recording.path, start_s=begins_s, end_s=ends_s)
    slug = re.sub(r"[^A-Za-z0-9]+", "-", cut.label).strip("-") or "clip"
    filepath = Path("audio") / recording.name / f"{index:05d}_{slug[:40]}.wav"
    exact = recording.info.channels == 1 and recording.info.subtype == "PCM_16"
    with storage_errors(out / filepath):
        (out / filepath).parent.mkdir(parents=True, exist_ok=True)
        subtype = "PCM_16" if exact else "FLOAT"
        sf.write(out / filepath, clip.samples, rate, subtype=subtype)
    times = (f"{begins_s:.9f}", f"{ends_s:.9f}")
    return (filepath.as_posix(), split, cut.label, recording.name, *times)


def _rng(recording: Recording, seed: int) -> np.random.Generator:
    """A generator that depends on the seed and the recording's name, not on its neighbours."""
    return np.random.default_rng([seed, zlib.crc32(recording.name.encode())])
