"""A recording -> its segments, which are measured, planned and answered one by one.

Cut in samples at the recording's own rate, so that positions are exact and no sample outside a
segment enters its answer. Segments start at samples 0, hop, 2 hop, ... while a whole one fits; if
the last does not reach the end, one more ends with the recording. A recording shorter than a
segment is one segment. ``Grid.cut`` cuts a whole recording, ``Cutter`` one that is still arriving;
both give the same. See docs/decisions/0005-segments.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]
# Start and end of a cell, in samples of the recording.
Cell = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Segment:
    """Samples [n] of a recording from sample ``start`` on; a view if the recording is in memory."""

    samples: Samples
    sample_rate_hz: int
    start: int

    @property
    def end(self) -> int:
        return self.start + len(self.samples)

    @property
    def start_s(self) -> float:
        return self.start / self.sample_rate_hz

    @property
    def end_s(self) -> float:
        return self.end / self.sample_rate_hz

    @property
    def span_s(self) -> tuple[float, float]:
        return self.start_s, self.end_s


@dataclass(frozen=True)
class Grid:
    """Where segments lie: ``length`` and ``hop`` in samples at ``sample_rate_hz``."""

    sample_rate_hz: int
    length: int
    hop: int

    @classmethod
    def of(cls, sample_rate_hz: int, *, segment_s: float, hop_s: float) -> Grid:
        """The grid nearest to a segment and a hop in seconds, at least one sample each."""
        length, hop = (max(1, round(step_s * sample_rate_hz)) for step_s in (segment_s, hop_s))
        return cls(sample_rate_hz, length, hop)

    def starts(self, frames: int) -> list[int]:
        return segment_starts(frames, self.length, self.hop)

    def cut(self, samples: Samples) -> list[Segment]:
        rate, length = self.sample_rate_hz, self.length
        starts = self.starts(len(samples))
        return [Segment(samples[start : start + length], rate, start) for start in starts]

    def cut_blocks(self, blocks: Iterable[Samples]) -> Iterator[Segment]:
        """Yield the segments of a recording that arrives in blocks of any size."""
        cutter = Cutter(self)
        for block in blocks:
            cutter.push(block)
            while (segment := cutter.take()) is not None:
                yield segment
        if (last := cutter.finish()) is not None:
            yield last


def segment_starts(size: int, length: int, hop: int) -> list[int]:
    """Where pieces of ``length`` start: every hop, the last one flush with the end."""
    last = max(0, size - length)
    starts = list(range(0, last + 1, max(1, hop)))
    if starts[-1] != last:
        starts.append(last)
    return starts


class Cutter:
    """Cuts segments from a recording as it arrives and frees what no later one needs.

    Samples are never overwritten once written, so a segment may be a view of the buffer.
    """

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._held = np.empty(0, np.float32)
        self._begin = self._end = 0  # of the samples in the buffer
        self._first = 0  # sample of the recording at ``_begin``
        self._count = 0

    @property
    def received(self) -> int:
        return self._first + self._end - self._begin

    @property
    def ahead(self) -> int:
        """Number of samples that are in no segment yet."""
        grid, count = self._grid, self._count
        return max(0, self.received - ((count - 1) * grid.hop + grid.length if count else 0))

    def push(self, block: Samples) -> None:
        self._let_go()
        if self._end + len(block) > len(self._held):
            held = self._held[self._begin : self._end]
            # Twice the room, so that many small blocks are not copied each time.
            self._held = np.empty(2 * len(held) + len(block), np.float32)
            self._held[: len(held)] = held
            self._begin, self._end = 0, len(held)
        self._held[self._end : self._end + len(block)] = block
        self._end += len(block)

    def take(self) -> Segment | None:
        """The next segment, or None if it is not complete."""
        start = self._count * self._grid.hop
        return self._cut(start) if start + self._grid.length <= self.received else None

    def finish(self) -> Segment | None:
        """A last segment flush with the end if samples are left that are in none."""
        return self._cut(max(0, self.received - self._grid.length)) if self.ahead else None

    def _cut(self, start: int) -> Segment:
        first = self._begin + start - self._first
        samples = self._held[first : min(first + self._grid.length, self._end)]
        self._count += 1
        return Segment(samples, self._grid.sample_rate_hz, start)

    def _let_go(self) -> None:
        """Free what neither the next segment needs nor one that would end with the last sample."""
        needed = min(self._count * self._grid.hop, self.received - self._grid.length)
        dropped = max(0, needed - self._first)
        self._begin += dropped
        self._first += dropped


def share_time(segments: Iterable[Segment]) -> Iterator[tuple[Segment, Cell]]:
    """Yield each segment with its cell: the time for which it alone speaks.

    Overlapping neighbours meet in the middle of their overlap; the last cell ends with its segment.
    One segment is held back.
    """
    held: Segment | None = None
    begin = 0
    for segment in segments:
        if held is not None:
            end, start = held.end, segment.start
            if start <= end:
                end = start = (start + end) // 2
            yield held, (begin, end)
            begin = start
        held = segment
    if held is not None:
        yield held, (begin, held.end)
