"""Bins, frames, stem rows and windows -> Hz and seconds.

Front ends space their bins differently (linear, mel, logarithmic), so a picture keeps one height
per bin, as the model sees it, and ticks say the true Hz.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from xmoe.base.units import edges_between
from xmoe.frontend.base import Frontend

Array = npt.NDArray[np.float64]
NICE = (1.0, 2.0, 5.0)
# Spans this near are one: times come as 32-bit numbers.
SAME_S = 1e-4
# Shares of a map between which its central 90 %, and its central half, lie.
CENTRAL = (0.05, 0.95)
HALF = (0.25, 0.75)
# A recording that is not known to end.
FROM_START = (0.0, float("inf"))


@dataclass(frozen=True)
class Scales:
    """Edges of the cells of one spectrogram: ``bin_edges_hz`` [F + 1], ``frame_edges_s`` [T + 1].

    ``bin_centers_hz`` [F] rises; ``frame_times_s`` [T] are the frames' centres. Behind
    ``sound_ends_s`` there is no recording, only what fills the segment.
    """

    bin_centers_hz: Array
    bin_edges_hz: Array
    frame_times_s: Array
    frame_edges_s: Array
    sound_ends_s: float = float("inf")

    @property
    def is_cut_short(self) -> bool:
        """Whether the recording ends before the segment does, by more than the last frame."""
        return bool(self.sound_ends_s < self.frame_times_s[-2:][0])

    @property
    def extent_s(self) -> tuple[float, float]:
        """Where the cell of the first frame begins and that of the last one ends."""
        times = self.frame_times_s
        half_s = (times[1] - times[0]) / 2 if len(times) > 1 else 0.5
        return float(times[0] - half_s), float(times[-1] + half_s)

    def bins_of(self, band_hz: tuple[float, float]) -> tuple[float, float]:
        """Lowest and highest edge of a band, counted in bins from the first centre."""
        edges = np.arange(len(self.bin_edges_hz)) - 0.5
        low, high = np.interp(band_hz, self.bin_edges_hz, edges)
        return float(low), float(high)

    def merge_spans(self, spans: Iterable[Sequence[float]]) -> list[tuple[float, float]]:
        """Spans of the segment, in the order of time, on the recording's clock.

        Neighbours are joined.
        """
        merged: list[tuple[float, float]] = []
        begins_s = float(self.frame_edges_s[0])
        for start, end in spans:
            if merged and abs(merged[-1][1] - begins_s - start) < SAME_S:
                start = merged.pop()[0] - begins_s
            merged.append((begins_s + start, begins_s + end))
        return merged

    def hz_ticks(self, most: int = 8) -> list[tuple[float, float]]:
        """(place in bins, Hz) of round frequencies within the band, about evenly spaced."""
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


def scales_of(
    frontend: Frontend, num_frames: int, span_s: tuple[float, float] = FROM_START
) -> Scales:
    """Scales of ``num_frames`` frames of a segment whose sound is ``span_s`` of a recording."""
    start_s, ends_s = span_s
    centers = frontend.bin_centers_hz.double().cpu().numpy()
    frame_s = frontend.config.hop_length / frontend.config.sample_rate_hz
    times = start_s + frame_s * np.arange(num_frames, dtype=np.float64)
    frame_edges = np.append(times - frame_s / 2, times[-1] + frame_s / 2)
    frame_edges[0] = start_s
    return Scales(centers, edges_between(centers), times, frame_edges, ends_s)


def describe_map(values: npt.NDArray[np.floating], scales: Scales) -> dict[str, Any]:
    """Where a map [F, T] lies; empty where it is zero.

    ``span_s`` and ``band_hz`` hold the central 90 % of it in time and in frequency, those of
    ``half`` the central half.
    """
    total = float(values.sum())
    if total <= 0:
        return {}
    row, column = np.unravel_index(int(values.argmax()), values.shape)
    share = values / total
    return {
        "peak": {
            "time_s": float(scales.frame_times_s[column]),
            "frequency_hz": float(scales.bin_centers_hz[row]),
        },
        "span_s": _between(share.sum(0), scales.frame_edges_s, CENTRAL),
        "band_hz": _between(share.sum(1), scales.bin_edges_hz, CENTRAL),
        "half": {
            "span_s": _between(share.sum(0), scales.frame_edges_s, HALF),
            "band_hz": _between(share.sum(1), scales.bin_edges_hz, HALF),
        },
    }


def _between(
    share: npt.NDArray[np.floating], edges: npt.NDArray[np.floating], parts: tuple[float, float]
) -> list[float]:
    """Edges between which a central part of shares that sum to one lies."""
    running = np.concatenate([[0.0], np.cumsum(share)])
    return [float(np.interp(part, running, edges)) for part in parts]
