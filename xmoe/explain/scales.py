"""Bins, frames, stem rows and windows -> Hz and seconds.

A front end spaces its bins as it likes (linear, mel, logarithmic), so a picture keeps one height
per bin, as the model sees it, and ticks say the true Hz.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xmoe.frontend.base import Frontend
from xmoe.glance.stem import DECIMATION

Array = npt.NDArray[np.float64]
NICE = (1.0, 2.0, 5.0)


@dataclass(frozen=True)
class Scales:
    """Edges of the cells of one spectrogram: ``bin_edges_hz`` [F + 1], ``frame_edges_s`` [T + 1].

    ``bin_centers_hz`` [F] rises; ``frame_times_s`` [T] are the frames' centres.
    """

    bin_centers_hz: Array
    bin_edges_hz: Array
    frame_times_s: Array
    frame_edges_s: Array

    def rows_hz(self, first: int, last: int) -> tuple[float, float]:
        """Return the band of the stem rows from ``first`` up to, not including, ``last``."""
        edges = self.bin_edges_hz
        top = min(last * DECIMATION, len(edges) - 1)
        return float(edges[first * DECIMATION]), float(edges[top])

    def window_s(self, window: int, window_frames: int) -> tuple[float, float]:
        """Return start and end of a window of ``window_frames`` columns of the stem map."""
        width = window_frames * DECIMATION
        last = len(self.frame_edges_s) - 1
        first = min(window * width, last)
        return float(self.frame_edges_s[first]), float(self.frame_edges_s[min(first + width, last)])

    def spans_s(self, windows: Sequence[int], window_frames: int) -> list[tuple[float, float]]:
        """Return windows, given in the order of time, as spans; neighbours become one."""
        spans: list[tuple[float, float]] = []
        for window in windows:
            start, end = self.window_s(window, window_frames)
            if spans and abs(spans[-1][1] - start) < 1e-9:
                start = spans.pop()[0]
            spans.append((start, end))
        return spans

    def hz_ticks(self, most: int = 8) -> list[tuple[float, float]]:
        """Return (place in bins, Hz) of round frequencies within the band, about evenly apart."""
        low, high = float(self.bin_centers_hz[0]), float(self.bin_centers_hz[-1])
        powers = 10.0 ** np.arange(0, 6)
        nice = np.unique(np.outer((*NICE, 3.0, 4.0, 6.0, 8.0), powers))
        nice = nice[(nice >= low) & (nice <= high)]
        places = np.interp(nice, self.bin_centers_hz, np.arange(len(self.bin_centers_hz)))
        apart = len(self.bin_centers_hz) / most
        chosen: list[tuple[float, float]] = []
        for rounder in (True, False):
            for place, hertz in zip(places.tolist(), nice.tolist(), strict=True):
                is_round = hertz / 10.0 ** np.floor(np.log10(hertz)) in NICE
                free = all(abs(place - taken) >= apart for taken, _ in chosen)
                if is_round == rounder and free:
                    chosen.append((place, hertz))
        return sorted(chosen)


def scales_of(frontend: Frontend, num_frames: int, start_s: float = 0.0) -> Scales:
    """Return the scales of ``num_frames`` frames that begin ``start_s`` into a recording."""
    centers = frontend.bin_centers_hz.double().cpu().numpy()
    frame_s = frontend.config.hop_length / frontend.config.sample_rate_hz
    times = start_s + frame_s * np.arange(num_frames, dtype=np.float64)
    frame_edges = np.append(times - frame_s / 2, times[-1] + frame_s / 2)
    frame_edges[0] = start_s
    return Scales(centers, edges_between(centers), times, frame_edges)


def edges_between(centers: Array) -> Array:
    """Return F + 1 edges halfway between rising centres [F]; the outer two lie as far outside."""
    middle = (centers[1:] + centers[:-1]) / 2
    first = max(0.0, 2 * centers[0] - middle[0])
    return np.concatenate([[first], middle, [2 * centers[-1] - middle[-1]]])
