"""The segments of a recording -> calibrated probabilities, in groups, several at a time.

Groups are formed by position in the recording and each is computed by one thread, so neither the
size of the blocks nor the number of threads changes an answer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt
import torch

from xmoe.audio.segment import Cell, Grid, Samples, Segment, share_time
from xmoe.frontend.measure import measure_segments
from xmoe.frontend.threads import one_thread
from xmoe.predict.predictor import BATCH, Predictor

GROUP_SAMPLES = 1 << 20
# A segment and the time that it alone stands for.
Window = tuple[Segment, Cell]


@dataclass(frozen=True)
class Answered:
    """A group of n segments: ``starts`` and ``cells`` [n, 2] in samples, ``lengths`` [n],
    ``probabilities`` [n, C], ``k`` [n], and ``power`` [n, F, T] of the front end.
    """

    starts: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    cells: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float64]
    k: npt.NDArray[np.int64]
    power: npt.NDArray[np.float32]


def group_windows(windows: Iterable[Window], grid: Grid) -> Iterator[list[Window]]:
    """Yield windows in groups of bounded size."""
    size = max(1, min(BATCH, GROUP_SAMPLES // grid.length))
    upcoming = iter(windows)
    while group := list(islice(upcoming, size)):
        yield group


def answer_group(predictor: Predictor, group: list[Window]) -> Answered:
    """Return the answers to segments of one recording."""
    segments = [segment for segment, _ in group]
    power, valid = measure_segments(segments, predictor.frontend)
    specs = predictor.frontend.compress(power, valid)
    answers = predictor.answer_segments(specs, predictor.sound_of(segments))
    return Answered(
        starts=np.array([segment.start for segment in segments], np.int64),
        lengths=np.array([len(segment.samples) for segment in segments], np.int64),
        cells=np.array([cell for _, cell in group], np.int64),
        probabilities=predictor.task.probabilities(answers.logits.double()).numpy(),
        k=answers.k.numpy().astype(np.int64),
        power=power.numpy(),
    )


def answer_blocks(
    predictor: Predictor, blocks: Iterable[Samples], grid: Grid, *, threads: int
) -> Iterator[Answered]:
    """Yield the answers to the segments of a recording; at most ``threads + 1`` groups are held."""
    windows = share_time(grid.cut_blocks(blocks))
    with one_thread():
        pool = ThreadPoolExecutor(
            max(1, threads),
            thread_name_prefix="annotate",
            initializer=torch.set_num_threads,
            initargs=(1,),
        )
        waiting: deque[Future[Answered]] = deque()
        try:
            for group in group_windows(windows, grid):
                waiting.append(pool.submit(answer_group, predictor, group))
                if len(waiting) > threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
