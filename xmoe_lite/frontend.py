"""Samples [S] at a front end's rate -> linear power [F, T]; the graphs go on from there.

``xmoe.frontend`` in numpy: ``stft`` for everything that is a filter bank on short Fourier
transforms, ``cqt`` and ``cwt`` for filters on one long transform.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from xmoe_lite.sound import Floats

Tables = Mapping[str, npt.NDArray[Any]]


class _Slices(NamedTuple):
    """Neighbouring filters: the points of a hop, which bins of the transform, their weights."""

    points: int
    bins: npt.NDArray[np.int64]
    weights: npt.NDArray[np.complex64]


class Frontend:
    """A front end by its record and its tables."""

    def __init__(self, record: Mapping[str, Any], tables: Tables) -> None:
        self.kind: str = record["kind"]
        self.rate_hz: int = record["sample_rate_hz"]
        self.hop: int = record["hop_length"]
        self.segment_s: float = record["segment_s"]
        self.samples = round(self.segment_s * self.rate_hz)
        self.num_frames: int = record["num_frames"]
        self._record, self._tables = record, tables
        self._plans: dict[int, list[_Slices]] = {}

    def power(self, samples: Floats) -> Floats:
        """Power [F, S // hop + 1]."""
        frames = len(samples) // self.hop + 1
        return (self._stft if self.kind == "stft" else self._filter)(samples, frames)

    def _stft(self, samples: Floats, frames: int) -> Floats:
        window, filters = self._tables["window"], self._tables["filters"]
        size, first = len(window), int(self._record["first_bin"])
        padded = np.pad(samples, (size // 2, size - size // 2))
        cuts = np.lib.stride_tricks.sliding_window_view(padded, size)[:: self.hop][:frames]
        spectrum = np.fft.rfft(cuts * window)[:, first : first + len(filters)]
        density = (spectrum.real**2 + spectrum.imag**2).astype(np.float32)
        power: Floats = (density @ filters).T
        return power

    def _filter(self, samples: Floats, frames: int) -> Floats:
        ringing = math.ceil(self._record["reach_s"] * (self.rate_hz / self.hop))
        period = next_smooth(frames + ringing + 1)
        if period not in self._plans:
            self._plans = {period: self._plan(period)}
        spectrum = np.fft.rfft(samples, period * self.hop)
        rows = []
        for points, bins, weights in self._plans[period]:
            filtered = np.fft.ifft(spectrum[bins] * weights, period * points, norm="forward")
            parts = filtered[:, : frames * points].reshape(len(bins), frames, points)
            rows.append((parts.real**2 + parts.imag**2).sum(2) / points)
        return np.concatenate(rows).astype(np.float32)

    def _plan(self, period: int) -> list[_Slices]:
        """The filters for clips that fill at most ``period`` frames, low ones first."""
        centers, half = self._tables["centers_hz"], self._tables["half_band_hz"]
        size = period * self.hop
        step_hz = self.rate_hz / size
        first = np.ceil((centers - half) / step_hz).clip(0).astype(int)
        last = np.floor((centers + half) / step_hz).clip(None, size // 2).astype(int)
        widths = last - first + 1
        needed = np.maximum.accumulate(np.ceil(widths / period).astype(int))
        rates = np.array([next_smooth(int(points), (3, 5)) for points in needed])
        plan = []
        for points in np.unique(rates).tolist():
            rows = np.flatnonzero(rates == points)
            steps = np.arange(widths[rows].max())
            bins = first[rows, None] + steps
            offset = bins * step_hz - centers[rows, None]
            gain = self._respond(rows, offset) * (steps < widths[rows, None])
            phase = -2.0 * math.pi * (points - 1) / 2 / (period * points) * steps
            weights = (gain * (2.0 / size) * np.exp(1j * phase)).astype(np.complex64)
            plan.append(_Slices(points, bins.clip(None, size // 2), weights))
        return plan

    def _respond(self, rows: npt.NDArray[Any], offset_hz: npt.NDArray[Any]) -> npt.NDArray[Any]:
        widths = self._tables["widths"][rows, None]
        if self.kind == "cwt":
            return np.asarray(np.exp(-0.5 * (offset_hz / widths) ** 2))
        offset = offset_hz * widths
        return np.asarray(np.sinc(offset) + 0.5 * (np.sinc(offset - 1) + np.sinc(offset + 1)))


def next_smooth(least: int, factors: tuple[int, ...] = (2, 3, 5)) -> int:
    """The smallest integer >= ``least`` whose only prime factors are ``factors``."""
    number = max(1, least)
    while True:
        rest = number
        for factor in factors:
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return number
        number += 1
