"""The segments of a recording -> calibrated probabilities, several groups at a time.

Groups are formed by position in the recording and each is computed by one thread, so neither block
size nor number of threads changes an answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice

import numpy as np
import numpy.typing as npt

from xmoe.annotate.moments import Wake, answer_moments
from xmoe.audio.segment import Cell, Grid, Samples, Segment, share_time
from xmoe.base.threads import map_ahead
from xmoe.frontend.measure import measure_segments
from xmoe.frontend.threads import one_thread
from xmoe.predict.predictor import Predictor

GROUP_SAMPLES, GROUP_WINDOWS = 1 << 20, 64
# An event on the border of two groups wakes a network twice: larger groups have fewer borders.
WOKEN_GROUPS = 4
# A segment and its cell.
Window = tuple[Segment, Cell]


@dataclass(frozen=True)
class Answered:
    """A group of n segments: ``starts`` and ``cells`` [n, 2] in samples, ``lengths`` [n],
    ``probabilities`` [n, C], ``k`` [n], and ``power`` [n, F, T] of the front end.

    ``around`` [n] are the starts of the segments cut around salient moments that answer instead,
    and -1 where a segment answers for itself.
    """

    starts: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    cells: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float64]
    k: npt.NDArray[np.int64]
    power: npt.NDArray[np.float32]
    around: npt.NDArray[np.int64]

    @property
    def moments(self) -> npt.NDArray[np.int64]:
        """Starts of the segments around salient moments, each once."""
        return np.unique(self.around[self.around >= 0])

    @property
    def answered_cells(self) -> npt.NDArray[np.int64]:
        """The cells [n, 2] with everything that a segment around a moment covers of the cells it
        answers.

        Overlapping segments meet in the middle; a cell of which nothing is left is empty.
        """
        cells, length = self.cells.copy(), int(self.lengths[0])
        edges = self.moments[:, None] + np.array([0, length])
        meet = (edges[:-1, 1] + edges[1:, 0]) // 2
        close = edges[:-1, 1] > edges[1:, 0]
        edges[:-1, 1][close] = edges[1:, 0][close] = meet[close]
        for moment, (begin, end) in zip(self.moments, edges, strict=True):
            own = self.around == moment
            before = ~own & (cells[:, 0] < begin)
            cells[before, 1] = np.minimum(cells[before, 1], begin)
            after = ~own & ~before & (cells[:, 0] < end)
            cells[after] = np.maximum(cells[after], end)
            rows = np.flatnonzero(own)
            cells[rows] = np.clip(cells[rows], begin, end)
            cells[rows[:-1], 1] = cells[rows[1:], 0]
            cells[rows[0], 0], cells[rows[-1], 1] = begin, end
        return cells


def group_windows(
    windows: Iterable[Window], grid: Grid, samples: int = GROUP_SAMPLES
) -> Iterator[list[Window]]:
    size = max(1, min(GROUP_WINDOWS, samples // grid.length))
    upcoming = iter(windows)
    while group := list(islice(upcoming, size)):
        yield group


def answer_group(predictor: Predictor, group: list[Window], wake: Wake | None = None) -> Answered:
    """Answer segments of one recording; with ``wake`` networks get only segments around likely
    events.
    """
    segments = [segment for segment, _ in group]
    power, valid = measure_segments(segments, predictor.frontend)
    specs = predictor.frontend.compress(power, valid)
    starts = np.array([segment.start for segment in segments], np.int64)
    if wake is None:
        answers = predictor.answer_segments(specs, predictor.sound_of(segments))
        around = np.full(len(starts), -1)
    else:
        said = answer_moments(predictor, segments, specs, wake)
        answers, around = said.answers, said.around
    return Answered(
        starts=starts,
        lengths=np.array([len(segment.samples) for segment in segments], np.int64),
        cells=np.array([cell for _, cell in group], np.int64),
        probabilities=predictor.task.probabilities(answers.logits.double()).numpy(),
        k=answers.k.numpy().astype(np.int64),
        power=power.numpy(),
        around=around,
    )


def answer_blocks(
    predictor: Predictor,
    blocks: Iterable[Samples],
    grid: Grid,
    *,
    threads: int,
    wake: Wake | None = None,
) -> Iterator[Answered]:
    """Yield the answers to the segments of a recording; at most ``threads + 1`` groups are held."""
    windows = share_time(grid.cut_blocks(blocks))
    samples = GROUP_SAMPLES if wake is None else WOKEN_GROUPS * GROUP_SAMPLES
    groups = group_windows(windows, grid, samples)
    answer = partial(answer_group, predictor, wake=wake)
    with one_thread():
        yield from map_ahead(answer, groups, threads=max(1, threads), name="annotate")
