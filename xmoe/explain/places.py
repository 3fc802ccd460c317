"""A map -> where it lies, in Hz and seconds: its peak, and the central 90 % of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from xmoe.explain.scales import Scales

CENTRAL = (0.05, 0.95)


def describe_map(values: npt.NDArray[np.floating], scales: Scales) -> dict[str, Any]:
    """Return peak, span and band of a map [F, T]; empty where the map is zero."""
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
        "span_s": _central(share.sum(0), scales.frame_edges_s),
        "band_hz": _central(share.sum(1), scales.bin_edges_hz),
    }


def _central(share: npt.NDArray[np.floating], edges: npt.NDArray[np.floating]) -> list[float]:
    """Return between which edges the central 90 % of shares that sum to one lie."""
    running = np.concatenate([[0.0], np.cumsum(share)])
    return [float(np.interp(part, running, edges)) for part in CENTRAL]
