"""Windows -> calibrated probabilities, in groups, several groups at a time.

A window is answered as a recording of its own: nothing around it enters the spectrogram. Groups are
formed by position in the recording and each is computed by one thread, so neither the size of the
blocks nor the number of threads changes an answer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from xmoe.annotate.windows import Grid, Window
from xmoe.audio.resample import resample
from xmoe.frontend.threads import one_thread
from xmoe.predict.predictor import BATCH, Predictor

GROUP_SAMPLES = 1 << 20


@dataclass(frozen=True)
class Answered:
    """A group of n windows: ``starts`` and ``cells`` [n, 2] in samples, ``lengths`` [n],
    ``probabilities`` [n, C], ``k`` [n], and ``power`` [n, F, T] of the front end.
    """

    starts: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    cells: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float64]
    k: npt.NDArray[np.int64]
    power: npt.NDArray[np.float32]


def group_windows(windows: Iterable[Window], grid: Grid) -> Iterator[list[Window]]:
    """Yield windows in groups of equal length; a shorter last window is a group of its own."""
    size = max(1, min(BATCH, GROUP_SAMPLES // grid.length))
    group: list[Window] = []
    for window in windows:
        if group and (len(group) == size or len(window.samples) != len(group[0].samples)):
            yield group
            group = []
        group.append(window)
    if group:
        yield group


def answer_group(predictor: Predictor, group: list[Window], sample_rate_hz: int) -> Answered:
    """Return the answers to windows of one length."""
    power = measure_windows(predictor, np.stack([w.samples for w in group]), sample_rate_hz)
    answers = predictor.answer_segments(compress_windows(predictor, power))
    logits = answers.logits.double()
    multi_label = predictor.config.model.task == "multi_label"
    probabilities = torch.sigmoid(logits) if multi_label else torch.softmax(logits, 1)
    return Answered(
        starts=np.array([w.start for w in group], np.int64),
        lengths=np.array([len(w.samples) for w in group], np.int64),
        cells=np.array([(w.cell_start, w.cell_end) for w in group], np.int64),
        probabilities=probabilities.numpy(),
        k=answers.k.numpy().astype(np.int64),
        power=power.numpy(),
    )


def measure_windows(
    predictor: Predictor, samples: npt.NDArray[np.float32], sample_rate_hz: int
) -> Tensor:
    """Return the power [n, F, at most T] of windows [n, S]."""
    spectro = predictor.config.spectro
    block = resample(
        torch.from_numpy(samples), from_hz=sample_rate_hz, to_hz=spectro.sample_rate_hz
    )
    with torch.no_grad():
        power = predictor.frontend.power(block)
    return power[:, :, : spectro.num_frames]


def compress_windows(predictor: Predictor, power: Tensor) -> Tensor:
    """Return segments [n, F, T] of the power [n, F, frames] of windows, padded as in training."""
    spectro, frames = predictor.config.spectro, power.shape[2]
    block = torch.zeros(len(power), power.shape[1], spectro.num_frames)
    block[:, :, :frames] = power
    return predictor.frontend.compress(block, torch.full((len(power),), frames))


def answer_windows(
    predictor: Predictor, windows: Iterable[Window], grid: Grid, *, threads: int
) -> Iterator[Answered]:
    """Yield the answers to windows in their order; at most ``threads + 1`` groups are held."""
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
                waiting.append(pool.submit(answer_group, predictor, group, grid.sample_rate_hz))
                if len(waiting) > threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
