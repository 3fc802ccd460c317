"""Blocks of samples -> windows that start at samples 0, hop, 2 hop, ... whatever the blocks' size.

Positions are whole samples of the recording's own rate, so times are exact at any hop. What is held
is one window and one block. Where the recording does not end with a window, a last, shorter one
reaches its end; it is left out where it is too short to be answered, and the plan says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from xmoe.base.errors import ConfigError

Samples = npt.NDArray[np.float32]
SHORTEST_S = 0.05


class Window(NamedTuple):
    """Samples [n] of one window, and in samples its ``start`` and the cell that it owns."""

    start: int
    samples: Samples
    cell_start: int
    cell_end: int


@dataclass(frozen=True)
class Grid:
    """Where windows lie: ``length`` and ``hop`` in samples at ``sample_rate_hz``."""

    sample_rate_hz: int
    length: int
    hop: int

    @classmethod
    def of(cls, *, window_s: float, hop_s: float, sample_rate_hz: int) -> Grid:
        """Return the grid nearest to a hop and a window in seconds; ConfigError for a hop of 0."""
        hop = round(hop_s * sample_rate_hz)
        if hop < 1:
            raise ConfigError(
                f"a hop of {hop_s:g} s is less than one sample at {sample_rate_hz} Hz",
                where="--hop",
                mend="give a longer hop, for example half of the window",
            )
        return cls(sample_rate_hz, max(1, round(window_s * sample_rate_hz)), hop)

    @property
    def lead(self) -> int:
        """Samples from the start of a window to the start of its cell."""
        return max(0, self.length - self.hop) // 2

    @property
    def cell(self) -> int:
        """Samples in a cell: one hop, or the window where windows do not touch."""
        return min(self.hop, self.length)

    @property
    def shortest(self) -> int:
        """Samples in the shortest last window that is answered."""
        return min(self.length, max(1, round(SHORTEST_S * self.sample_rate_hz)))

    def count(self, frames: int) -> int:
        """Return how many windows a recording of that many samples has."""
        full = max(0, (frames - self.length) // self.hop + 1)
        covered = (full - 1) * self.hop + self.length if full else 0
        rest = frames - full * self.hop
        return full + int(covered < frames and rest >= min(self.shortest, frames))


def cut_windows(blocks: Iterable[Samples], grid: Grid) -> Iterator[Window]:
    """Yield the windows of a recording in the order of time; the last cell ends with its window."""
    held: Window | None = None
    for start, samples in _cut(blocks, grid):
        if held is not None:
            yield held
        cell_start = start + grid.lead if start else 0
        held = Window(start, samples, cell_start, start + grid.lead + grid.cell)
    if held is not None:
        yield held._replace(cell_end=held.start + len(held.samples))


def _cut(blocks: Iterable[Samples], grid: Grid) -> Iterator[tuple[int, Samples]]:
    """Yield (start, samples) of each window; ``buffer`` begins ``begins`` samples in."""
    buffer = np.empty(0, np.float32)
    begins, start, covered = 0, 0, 0
    for block in blocks:
        buffer = np.concatenate([buffer, block]) if len(buffer) else block
        while start + grid.length <= begins + len(buffer):
            covered = start + grid.length
            yield start, buffer[start - begins : covered - begins].copy()
            start += grid.hop
        drop = min(start - begins, len(buffer))
        buffer, begins = buffer[drop:], begins + drop
    end = begins + len(buffer)
    if covered < end and end - start >= min(grid.shortest, end):
        yield start, buffer[start - begins :].copy()
