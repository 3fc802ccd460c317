"""Groups of answered segments -> a spectrogram of the whole recording, of bounded size.

Each cell gives a few columns, the loudest frame of each. If there are too many columns, neighbours
are merged into their louder one, and each column then stands for twice the time.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from xmoe.annotate.answers import Answered
from xmoe.audio.segment import Grid
from xmoe.base.config import SpectroConfig

MOST_COLUMNS = 8192
COLUMNS_PER_CELL = 16
SILENCE = 1e-20  # marks columns into which no frame has fallen

Array = npt.NDArray[np.float32]


class Overview:
    """Loudest power [columns, F] over equal stretches of ``column_s`` seconds."""

    def __init__(self, spectro: SpectroConfig, grid: Grid, *, most: int = MOST_COLUMNS) -> None:
        self._frame_s = 1.0 / spectro.frame_rate_hz
        self._rate_hz = grid.sample_rate_hz
        self._most = most
        cell_s = min(grid.hop, grid.length) / grid.sample_rate_hz
        columns = min(COLUMNS_PER_CELL, max(1, round(cell_s * spectro.frame_rate_hz)))
        self.column_s = cell_s / columns
        self._power = np.full((2 * most, spectro.num_bins), SILENCE, np.float32)
        self._filled = 0

    def add(self, answered: Answered) -> None:
        """Add the part of each segment's power [n, F, T] that lies in its cell."""
        for start, cell, power in zip(answered.starts, answered.cells, answered.power, strict=True):
            times = start / self._rate_hz + self._frame_s * np.arange(power.shape[1])
            inside = (times >= cell[0] / self._rate_hz) & (times < cell[1] / self._rate_hz)
            self._put(times[inside], power[:, inside].T)

    def _put(self, times: npt.NDArray[np.float64], power: Array) -> None:
        if not len(times):
            return
        while int(times[-1] / self.column_s) >= len(self._power):
            self._halve()
        columns = (times / self.column_s).astype(int)
        np.maximum.at(self._power, columns, power)
        self._filled = max(self._filled, int(columns[-1]) + 1)

    def _halve(self) -> None:
        pairs = self._power.reshape(self._most, 2, -1).max(1)
        self._power[: self._most] = pairs
        self._power[self._most :] = SILENCE
        self.column_s *= 2
        self._filled = (self._filled + 1) // 2

    def level_db(self) -> Array:
        """Level [F, columns] in dB; columns without a frame repeat the one before."""
        power = self._power[: self._filled]
        filled = power.max(1) > SILENCE
        latest = np.maximum.accumulate(np.where(filled, np.arange(len(power)), 0))
        return np.asarray(10.0 * np.log10(np.maximum(power[latest], SILENCE)).T, np.float32)
