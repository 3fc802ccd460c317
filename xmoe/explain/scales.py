"""Bins, frames, stem rows and windows -> Hz and seconds.

A front end spaces its bins as it likes (linear, mel, logarithmic), so a picture keeps one height
per bin, as the model sees it, and ticks say the true Hz.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xmoe.base.units import edges_between
from xmoe.frontend.base import Frontend

Array = npt.NDArray[np.float64]
NICE = (1.0, 2.0, 5.0)
# Spans this near are one: times come as 32-bit numbers.
SAME_S = 1e-4


@dataclass(frozen=True)
class Scales:
    """Edges of the cells of one spectrogram: ``bin_edges_hz`` [F + 1], ``frame_edges_s`` [T + 1].

    ``bin_centers_hz`` [F] rises; ``frame_times_s`` [T] are the frames' centres.
    """

    bin_centers_hz: Array
    bin_edges_hz: Array
    frame_times_s: Array
    frame_edges_s: Array

    def bins_of(self, band_hz: tuple[float, float]) -> tuple[float, float]:
        """Return the lowest and highest edge of a band, counted in bins from the first centre."""
        edges = np.arange(len(self.bin_edges_hz)) - 0.5
        low, high = np.interp(band_hz, self.bin_edges_hz, edges)
        return float(low), float(high)

    def merge_spans(self, spans: Iterable[Sequence[float]]) -> list[tuple[float, float]]:
        """Return spans of the segment, in the order of time, on the recording's clock.

        Neighbours become one.
        """
        merged: list[tuple[float, float]] = []
        begins_s = float(self.frame_edges_s[0])
        for start, end in spans:
            if merged and abs(merged[-1][1] - begins_s - start) < SAME_S:
                start = merged.pop()[0] - begins_s
            merged.append((begins_s + start, begins_s + end))
        return merged

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
