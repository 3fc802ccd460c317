"""A map -> where it lies, in Hz and seconds: its peak, the central 90 % of it, and its half."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from xmoe.explain.scales import Scales

CENTRAL = (0.05, 0.95)
HALF = (0.25, 0.75)


def describe_map(values: npt.NDArray[np.floating], scales: Scales) -> dict[str, Any]:
    """Return where a map [F, T] lies; empty where it is zero.

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
    """Return between which edges a central part of shares that sum to one lies."""
    running = np.concatenate([[0.0], np.cumsum(share)])
    return [float(np.interp(part, running, edges)) for part in parts]
