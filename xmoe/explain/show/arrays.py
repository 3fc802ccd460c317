"""Reasons -> the arrays that a page draws, small enough for JSON: one byte a cell, base64.

Rows begin at the lowest frequency. Larger arrays are averaged down, so that the record of any front
end stays under half a megabyte.
"""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from xmoe.explain.maps.own_maps import OwnMap
from xmoe.explain.reasons import Reasons
from xmoe.explain.scales import Scales

Array = npt.NDArray[np.floating]
MOST_BINS = 128
MOST_FRAMES = 400
# There may be eight of them.
MOST_OWN_FRAMES = 200
OVERVIEW_FRAMES = 1000
SHOWN_Z = (-1.5, 4.0)
SHOWN_DB = 60.0  # range below the loudest cell
SILENCE = 1e-20


def pack_arrays(reasons: Reasons) -> dict[str, Any]:
    """Spectrogram and maps of one clip as bytes, with their places in Hz and seconds.

    ``extent_s`` is where the first column begins and the last one ends; ``bins_hz`` the middle of
    each row; ``window_edges_s`` [P + 1]; ``bands`` the height of each asked expert's band from 0 to
    1; ``window_scores`` what the router gave its windows. ``spectrogram`` spans ``low`` to
    ``high``, a map its own zero to peak. ``own`` holds the same for each expert on sound, on a
    spectrogram of its own; the maps of all others are ``expert_maps``.
    """
    scales, plan = reasons.scales, reasons.plan
    chosen = [name for name, _, _ in reasons.chosen()]
    begins_s = float(scales.frame_edges_s[0])
    scores = plan.window_scores[0]
    return {
        "extent_s": list(scales.extent_s),
        "ticks_hz": place_ticks(scales),
        "bins_hz": place_bins(scales),
        "window_edges_s": [begins_s + edge for edge in plan.window_edges_s],
        "window_scores": {
            name: [round(value, 6) for value in scores[plan.expert_names.index(name)].tolist()]
            for name in chosen
        },
        "bands": {name: place_band(reasons, name) for name in chosen},
        "spectrogram": pack_spectrogram(reasons.spec),
        "maps": {name: pack_map(values) for name, values in reasons.maps.items()},
        "expert_maps": {
            name: pack_map(values)
            for name, values in reasons.expert_maps.items()
            if name not in reasons.own_maps
        },
        "own": {name: pack_own(own) for name, own in reasons.own_maps.items()},
    }


def pack_own(own: OwnMap) -> dict[str, Any]:
    """What one expert was sent and what of it spoke for the answer, as bytes with its axes."""
    return {
        "extent_s": list(own.scales.extent_s),
        "ticks_hz": place_ticks(own.scales),
        "bins_hz": place_bins(own.scales),
        "spectrogram": pack_spectrogram(own.spec, MOST_OWN_FRAMES),
        "map": pack_map(own.values, MOST_OWN_FRAMES),
    }


def pack_spectrogram(spec: Array, most_frames: int = MOST_FRAMES) -> dict[str, Any]:
    """Z-scores [F, T] as bytes; what was not sent (NaN) is as low as can be."""
    low = max(SHOWN_Z[0], float(np.nanmin(spec)))
    high = max(low + 1e-6, min(SHOWN_Z[1], float(np.nanmax(spec))))
    return {"unit": "z-score", **pack(shrink(np.nan_to_num(spec, nan=low), most_frames), low, high)}


def pack_overview(power: Tensor, scales: Scales, duration_s: float) -> dict[str, Any]:
    """Power [F, frames] of a whole recording as bytes, in dB below its loudest cell."""
    values = shrink(power.double().cpu().numpy(), OVERVIEW_FRAMES)
    level_db = 10.0 * np.log10(values.clip(SILENCE) / max(float(values.max()), SILENCE))
    return {
        "extent_s": [0.0, duration_s],
        "ticks_hz": place_ticks(scales),
        "spectrogram": {"unit": "dB", **pack(level_db, -SHOWN_DB, 0.0)},
    }


def shrink(values: Array, most_frames: int = MOST_FRAMES) -> Array:
    """Average [F, T] down to at most ``MOST_BINS`` bins and ``most_frames`` frames."""
    for axis, most in ((0, MOST_BINS), (1, most_frames)):
        size = values.shape[axis]
        if size > most:
            edges = np.linspace(0, size, most + 1).astype(np.intp)
            sums = np.add.reduceat(values, edges[:-1], axis=axis)
            counts = np.diff(edges)
            values = sums / (counts[:, None] if axis == 0 else counts)
    return values


def pack(values: Array, low: float, high: float) -> dict[str, Any]:
    """[F, T] as bytes, ``low`` as 0 and ``high`` as 255, row after row in base64."""
    levels = np.rint((values - low) / (high - low) * 255.0).clip(0, 255).astype(np.uint8)
    return {
        "bins": values.shape[0],
        "frames": values.shape[1],
        "low": round(low, 3),
        "high": round(high, 3),
        "data": base64.b64encode(levels.tobytes()).decode("ascii"),
    }


def pack_map(values: Array, most_frames: int = MOST_FRAMES) -> dict[str, Any]:
    """A map [F, T] as shares of its peak."""
    peak = max(float(values.max()), 1e-12)
    return pack(shrink(values / peak, most_frames), 0.0, 1.0)


def place_bins(scales: Scales) -> list[float]:
    """The middle of each row in Hz, averaged down as rows are."""
    return [round(hz, 2) for hz in shrink(scales.bin_centers_hz[:, None])[:, 0].tolist()]


def place_ticks(scales: Scales) -> list[list[float]]:
    """(height from 0 to 1, Hz) of round frequencies, evenly spaced."""
    bins = len(scales.bin_centers_hz)
    return [[round((place + 0.5) / bins, 5), hertz] for place, hertz in scales.hz_ticks()]


def place_band(reasons: Reasons, name: str) -> list[float]:
    """Lower and upper edge of an expert's band as heights from 0 to 1."""
    bins = reasons.spec.shape[0]
    edges = reasons.scales.bins_of(reasons.bands_hz[name])
    return [round((edge + 0.5) / bins, 5) for edge in edges]
