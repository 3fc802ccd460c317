"""A run + a recording of any length -> its events, what was listened to, and a picture.

The recording is read once, block by block. Held are one block, a few groups of windows, the events
and an overview of bounded size, so memory does not grow with the recording's length.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xmoe.annotate.answers import Answered, answer_windows
from xmoe.annotate.events import Event, MergeRules, list_rows, merge_events
from xmoe.annotate.overview import Overview
from xmoe.annotate.thresholds import Thresholds
from xmoe.annotate.window_table import WindowTable
from xmoe.annotate.windows import Grid, cut_windows
from xmoe.audio.clip import AudioInfo, open_blocks
from xmoe.base.progress import Progress, silent
from xmoe.predict.predictor import Predictor

BLOCK_FRAMES = 1 << 18


@dataclass(frozen=True)
class AnnotateOptions:
    """How to listen to a recording and what to report of it.

    ``hop_s`` is the step between windows; ``threads`` answer groups of windows side by side. What
    ``rules`` say of thresholds and background is usually the run's own.
    """

    hop_s: float
    rules: MergeRules = field(default_factory=MergeRules)
    threads: int = 1
    block_frames: int = BLOCK_FRAMES


@dataclass(frozen=True)
class Annotated:
    """The events of one recording and how they came to be; ``frames`` counts its samples.

    ``short_window_s`` is the length of the last window where it is shorter than the others, else 0;
    ``unheard_s`` is what lies after the last window.
    """

    events: tuple[Event, ...]
    info: AudioInfo
    grid: Grid
    frames: int
    windows: int
    short_window_s: float
    unheard_s: float
    mean_k: float
    overview: Overview
    seconds: float

    @property
    def duration_s(self) -> float:
        """Length of the recording in seconds."""
        return self.frames / self.grid.sample_rate_hz

    def notes(self) -> list[str]:
        """Return what a reader of the events should know, in plain words."""
        rate, notes = self.grid.sample_rate_hz, []
        if self.short_window_s:
            notes.append(f"the last window is short ({self.short_window_s:.3f} s)")
        if self.grid.hop > self.grid.length:
            gap_s = (self.grid.hop - self.grid.length) / rate
            notes.append(
                f"the hop is longer than a window: {gap_s:g} s between windows are unheard"
            )
        elif self.unheard_s > 0:
            notes.append(f"the last {self.unheard_s:.3f} s are too short for a window")
        return notes


def merge_rules(thresholds: Thresholds, **changes: Any) -> MergeRules:
    """Return the rules of a run; ``threshold`` replaces those of all classes, the rest is added."""
    given = {name: value for name, value in changes.items() if value is not None}
    known = {} if "threshold" in given else thresholds.values()
    given.setdefault("background", thresholds.background)
    return MergeRules(thresholds=known, **given)


def annotate_recording(
    predictor: Predictor,
    path: str | Path,
    options: AnnotateOptions,
    *,
    windows_to: Path | None = None,
    progress: Progress = silent,
) -> Annotated:
    """Return the events of a recording.

    The answer to every window is written to ``windows_to``, a Parquet file, if given. Raises
    AudioError for a recording that cannot be read to its end.
    """
    began = time.monotonic()
    with ExitStack() as stack:
        info, blocks = stack.enter_context(open_blocks(path, block_frames=options.block_frames))
        grid = Grid.of(
            window_s=predictor.config.spectro.segment_s,
            hop_s=options.hop_s,
            sample_rate_hz=info.sample_rate_hz,
        )
        tally = _Tally(predictor, grid, info, progress)
        groups = answer_windows(
            predictor, cut_windows(tally.count(blocks), grid), grid, threads=options.threads
        )
        classes, rate = predictor.config.classes, grid.sample_rate_hz
        heard = tally.watch(groups)
        if windows_to is not None:
            heard = _tell(heard, stack.enter_context(WindowTable(windows_to, classes, rate)))
        rows = (
            row
            for group in heard
            for row in list_rows(group.probabilities, group.cells / rate, classes, options.rules)
        )
        events = merge_events(rows, options.rules)
    return tally.close(events, time.monotonic() - began)


def _tell(groups: Iterable[Answered], listener: WindowTable) -> Iterator[Answered]:
    for group in groups:
        listener(group)
        yield group


class _Tally:
    """What is counted while a recording passes: samples, windows, K, and the overview."""

    def __init__(
        self, predictor: Predictor, grid: Grid, info: AudioInfo, progress: Progress
    ) -> None:
        self.grid, self.info, self.progress = grid, info, progress
        self.overview = Overview(predictor.config.spectro, grid)
        self.frames = self.windows = self.k = self.end = self.short = 0

    def count(self, blocks: Iterable[Any]) -> Iterator[Any]:
        for block in blocks:
            self.frames += len(block)
            yield block

    def watch(self, groups: Iterable[Answered]) -> Iterator[Answered]:
        total = max(1, self.grid.count(self.info.frames))
        for group in groups:
            self.windows += len(group.starts)
            self.k += int(group.k.sum())
            self.end = int(group.starts[-1] + group.lengths[-1])
            last = int(group.lengths[-1])
            self.short = last if last < self.grid.length else 0
            self.overview.add(group)
            done = min(self.windows, total)
            self.progress("annotate", done, total, f"{self.end / self.grid.sample_rate_hz:.0f} s")
            yield group

    def close(self, events: tuple[Event, ...], seconds: float) -> Annotated:
        rate = self.grid.sample_rate_hz
        return Annotated(
            events=events,
            info=self.info,
            grid=self.grid,
            frames=self.frames,
            windows=self.windows,
            short_window_s=self.short / rate,
            unheard_s=max(0, self.frames - self.end) / rate,
            mean_k=self.k / max(1, self.windows),
            overview=self.overview,
            seconds=seconds,
        )
