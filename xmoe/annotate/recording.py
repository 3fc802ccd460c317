"""A run + a recording of any length -> its events, what they rest on, and a picture.

The recording is read once, block by block. One block, a few groups of segments, the events and an
overview of bounded size are in memory, which does not grow with the recording's length.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xmoe.annotate.answers import Answered, answer_blocks
from xmoe.annotate.events import Event, MergeRules, list_rows, merge_events
from xmoe.annotate.moments import Wake, count_cheap
from xmoe.annotate.overview import Overview
from xmoe.annotate.thresholds import Thresholds
from xmoe.annotate.window_table import WindowTable
from xmoe.audio.clip import AudioInfo, open_blocks
from xmoe.audio.field_notes import FieldNotes, find_field_notes
from xmoe.audio.reading import AS_IT_IS, Reading
from xmoe.audio.segment import Grid
from xmoe.base.errors import ConfigError
from xmoe.base.progress import Progress, silent
from xmoe.predict.doubts import Levels, judge_levels
from xmoe.predict.predictor import Predictor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from xmoe.annotate.picture import Array

BLOCK_FRAMES = 1 << 18


@dataclass(frozen=True)
class AnnotateOptions:
    """How to read a recording and what to report.

    ``hop_s`` is the step between windows; ``threads`` answer groups of windows in parallel.
    Thresholds and background in ``rules`` are usually the run's own. With ``wake`` pretrained
    networks get only what may be an event with that chance (``xmoe.annotate.moments``).
    """

    hop_s: float
    rules: MergeRules = field(default_factory=MergeRules)
    threads: int = 1
    reading: Reading = AS_IT_IS
    block_frames: int = BLOCK_FRAMES
    wake: float | None = None


@dataclass(frozen=True)
class Annotated:
    """The events of one recording and how they were found; ``frames`` counts its samples.

    ``warnings`` say why the events may be unreliable; ``woken`` counts the moments at which a
    pretrained network was asked, if it is asked by moment.
    """

    events: tuple[Event, ...]
    warnings: tuple[str, ...]
    field: FieldNotes
    info: AudioInfo
    grid: Grid
    frames: int
    windows: int
    mean_k: float
    woken: int
    overview: Overview
    bin_centers_hz: Array
    seconds: float

    @property
    def duration_s(self) -> float:
        return self.frames / self.grid.sample_rate_hz

    def draw(self, title: str = "") -> Figure:
        """The whole recording with its events framed."""
        from xmoe.annotate.picture import draw_recording  # matplotlib takes a second to load

        found = f"{len(self.events)} events in {self.duration_s:.0f} s"
        return draw_recording(
            self.overview.level_db(),
            column_s=self.overview.column_s,
            duration_s=self.duration_s,
            bin_centers_hz=self.bin_centers_hz,
            events=self.events,
            title=f"{title}: {found}" if title else found,
        )

    def notes(self) -> list[str]:
        """What a reader of the events should know, in plain words."""
        grid, rate = self.grid, self.grid.sample_rate_hz
        if self.frames < grid.length:
            return [f"the recording ({self.duration_s:.3f} s) is shorter than a window"]
        if grid.hop > grid.length:
            gap_s = (grid.hop - grid.length) / rate
            return [f"the hop is longer than a window: {gap_s:g} s between windows are left out"]
        return []


def merge_rules(thresholds: Thresholds, **changes: Any) -> MergeRules:
    """The rules of a run; a ``threshold`` replaces those of all classes, the rest is added."""
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
    """Find the events of a recording.

    The answer to every segment is written to ``windows_to``, a Parquet file, if given. Raises
    AudioError if the recording cannot be read to its end.
    """
    began = time.monotonic()
    field = find_field_notes(Path(path))
    with ExitStack() as stack:
        info, blocks, measured = stack.enter_context(
            open_blocks(path, block_frames=options.block_frames, reading=options.reading)
        )
        grid = grid_of(predictor, info, options.hop_s)
        wake = None
        if options.wake is not None:
            wake = Wake(options.wake, options.rules.background)
            check_waking(predictor, grid, wake)
        tally = _Tally(predictor, grid, info, progress)
        classes, rate, rules = predictor.config.classes, grid.sample_rate_hz, options.rules
        blocks = tally.count(blocks)
        answers = answer_blocks(predictor, blocks, grid, threads=options.threads, wake=wake)
        groups = tally.watch(answers)
        if windows_to is not None:
            groups = _copy(groups, stack.enter_context(WindowTable(windows_to, classes, rate)))
        rows = (
            row
            for group in groups
            for row in list_rows(group.probabilities, group.answered_cells / rate, classes, rules)
        )
        events = merge_events(rows, rules)
    warnings = tally.judge(measured.clipped_rate, fmax_hz=predictor.config.spectro.fmax_hz)
    if doubt := field.doubt(options.reading.time_expansion):
        warnings.append(doubt)
    return Annotated(
        events=events,
        warnings=tuple(warnings),
        field=field,
        info=info,
        grid=grid,
        frames=tally.frames,
        windows=tally.windows,
        mean_k=tally.k / max(1, tally.windows),
        woken=tally.woken,
        overview=tally.overview,
        bin_centers_hz=predictor.frontend.bin_centers_hz.cpu().numpy(),
        seconds=time.monotonic() - began,
    )


def grid_of(predictor: Predictor, info: AudioInfo, hop_s: float) -> Grid:
    """Where the segments of a recording lie; ConfigError for a hop shorter than a sample."""
    rate = info.sample_rate_hz
    if round(hop_s * rate) < 1:
        what = f"a hop of {hop_s:g} s is less than one sample at {rate} Hz"
        mend = "give a longer hop, for example half of the window"
        raise ConfigError(what, where="--hop", mend=mend)
    return Grid.of(rate, segment_s=predictor.config.spectro.segment_s, hop_s=hop_s)


def check_waking(predictor: Predictor, grid: Grid, wake: Wake) -> None:
    """Raise ConfigError if no network can be woken, all would be, or windows leave gaps."""
    if count_cheap(predictor.config.model) is None:
        what = "no pretrained network is among the experts of this run"
        mend = "leave it out, or train with --backbone"
    elif {*wake.background}.issuperset(predictor.config.classes):
        what, mend = "every class of this run is background", "name fewer with --background"
    elif predictor.task.exclusive and not {*wake.background} & {*predictor.config.classes}:
        what = "no class of this run is background, so every window holds an event"
        mend = "name one with --background, or train with clips of a class named background"
    elif grid.hop > grid.length:
        what = "a network cannot be woken around moments that lie between windows"
        window_s = grid.length / grid.sample_rate_hz
        mend = f"give a --hop of {window_s:g} s, the length of a window, or less"
    else:
        return
    raise ConfigError(what, where="--wake", mend=mend)


def _copy(groups: Iterable[Answered], table: WindowTable) -> Iterator[Answered]:
    for group in groups:
        table(group)
        yield group


class _Tally:
    """What is counted as a recording passes: samples, windows, K, and the overview."""

    def __init__(
        self, predictor: Predictor, grid: Grid, info: AudioInfo, progress: Progress
    ) -> None:
        self.grid, self.info, self.progress = grid, info, progress
        self.overview = Overview(predictor.config.spectro, grid)
        self.frames = self.windows = self.k = self.woken = 0
        self.low, self.high = float("inf"), float("-inf")

    def count(self, blocks: Iterable[Any]) -> Iterator[Any]:
        for block in blocks:
            self.frames += len(block)
            self.low = min(self.low, float(block.min()))
            self.high = max(self.high, float(block.max()))
            yield block

    def judge(self, clipped_rate: float, *, fmax_hz: float) -> list[str]:
        """Doubts about the recording that has passed, the same as about a short one."""
        levels = Levels(self.low, self.high, clipped_rate)
        rate = self.info.sample_rate_hz
        return [*self.info.notes, *judge_levels(levels, rate, fmax_hz=fmax_hz)]

    def watch(self, groups: Iterable[Answered]) -> Iterator[Answered]:
        total = len(self.grid.starts(self.info.frames))
        for group in groups:
            self.windows += len(group.starts)
            self.k += int(group.k.sum())
            self.woken += len(group.moments)
            self.overview.add(group)
            done, end = min(self.windows, total), int(group.cells[-1, 1])
            self.progress("annotate", done, total, f"{end / self.grid.sample_rate_hz:.0f} s")
            yield group
