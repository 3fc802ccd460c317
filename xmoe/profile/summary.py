"""Sorted rows of ClipStats -> the numbers of a profile: counts, quantiles, band, spectrum.

Everything here is a pure function of the rows. Sums are exact (``math.fsum``) and quantiles are
taken over all rows, so the way the rows were produced does not matter.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from xmoe.profile.clip_stats import ClipStats
from xmoe.profile.quality import clip_quality, dataset_quality, transient_score
from xmoe.profile.spectrum import psd_band_centers_hz

QUANTILES = {"p05": 0.05, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p95": 0.95}
HISTOGRAM_BINS = 24
CLIPPED_CLIP_RATE = 1e-3
NEAR_SILENT_DB = -70.0
NEAR_SILENT_RATE = 0.95

Values = npt.NDArray[np.float64]


def summarise(rows: Sequence[ClipStats], *, num_unreadable: int = 0) -> dict[str, Any]:
    """The numeric fields of a profile; there must be at least one row."""
    return {**_counts(rows), **_levels(rows, num_unreadable)}


def _counts(rows: Sequence[ClipStats]) -> dict[str, Any]:
    rates = Counter(row.sample_rate_hz for row in rows)
    classes = _class_profiles(rows)
    sizes = [entry["count"] for entry in classes.values()]
    return {
        "num_clips": len(rows),
        "num_duplicates": len(rows) - len({row.content_sha256 for row in rows}),
        "total_duration_s": math.fsum(row.duration_s for row in rows),
        "fs_mode_hz": max(rates, key=lambda rate: (rates[rate], rate)),
        "fs_unique": dict(sorted(rates.items())),
        "channels": dict(sorted(Counter(row.channels for row in rows).items())),
        "bit_depths": dict(sorted(Counter(row.bit_depth for row in rows).items())),
        "formats": dict(sorted(Counter(row.format for row in rows).items())),
        "splits": dict(sorted(Counter(row.split for row in rows).items())),
        "classes": classes,
        "imbalance": max(sizes) / min(sizes) if sizes else 1.0,
    }


def _class_profiles(rows: Sequence[ClipStats]) -> dict[str, dict[str, Any]]:
    members: dict[str, list[ClipStats]] = {}
    for row in rows:
        for label in row.labels:
            members.setdefault(label, []).append(row)
    return {
        label: {
            "count": len(own),
            "duration_s": math.fsum(row.duration_s for row in own),
            "splits": dict(sorted(Counter(row.split for row in own).items())),
            "fmin_eff_hz": _median([row.fmin_eff_hz for row in own]),
            "fmax_eff_hz": _median([row.fmax_eff_hz for row in own]),
            "snr_db": _median([row.snr_db for row in own]),
        }
        for label, own in sorted(members.items())
    }


def _levels(rows: Sequence[ClipStats], num_unreadable: int) -> dict[str, Any]:
    limits = [row.band_limit_hz for row in rows if row.band_limit_hz is not None]
    low, high = _dataset_band(rows)
    measures = {name: np.array(values) for name, values in _measures(rows).items() if values}
    return {
        "fmin_eff_hz": low,
        "fmax_eff_hz": high,
        "snr_db": _median([row.snr_db for row in rows]),
        "clipping_rate": _mean([row.clipping_rate for row in rows]),
        "clipped_fraction": _mean([float(row.clipping_rate > CLIPPED_CLIP_RATE) for row in rows]),
        "silence_rate": _mean([row.silence_rate for row in rows]),
        "near_silent_fraction": _mean(
            [
                float(row.rms_db < NEAR_SILENT_DB or row.silence_rate > NEAR_SILENT_RATE)
                for row in rows
            ]
        ),
        "band_limited_fraction": len(limits) / len(rows),
        "band_limit_hz": _median(limits),
        "quality": dataset_quality(rows, num_unreadable=num_unreadable),
        "transient": transient_score(rows),
        "quantiles": {name: _quantiles(values) for name, values in measures.items()},
        "histograms": {name: _histogram(measures[name]) for name in ("duration_s", "snr_db")},
        "psd": _psd_summary(rows),
    }


def _measures(rows: Sequence[ClipStats]) -> dict[str, list[float]]:
    return {
        "duration_s": [row.duration_s for row in rows],
        "rms_db": [row.rms_db for row in rows],
        "peak": [row.peak for row in rows],
        "fmin_eff_hz": [row.fmin_eff_hz for row in rows if row.fmin_eff_hz is not None],
        "fmax_eff_hz": [row.fmax_eff_hz for row in rows if row.fmax_eff_hz is not None],
        "snr_db": [row.snr_db for row in rows],
        "kurtosis": [row.kurtosis for row in rows],
        "flatness": [row.flatness for row in rows],
        "clipping_rate": [row.clipping_rate for row in rows],
        "silence_rate": [row.silence_rate for row in rows],
        "quality": [clip_quality(row) for row in rows],
    }


def _dataset_band(rows: Sequence[ClipStats]) -> tuple[float, float]:
    audible = [row for row in rows if row.fmin_eff_hz is not None and row.fmax_eff_hz is not None]
    if not audible:
        return 0.0, max(row.sample_rate_hz for row in rows) / 2
    classes = _class_profiles(audible).values()
    lows = np.array([row.fmin_eff_hz for row in audible], dtype=np.float64)
    highs = np.array([row.fmax_eff_hz for row in audible], dtype=np.float64)
    low = min([float(np.quantile(lows, 0.05)), *(entry["fmin_eff_hz"] for entry in classes)])
    high = max([float(np.quantile(highs, 0.95)), *(entry["fmax_eff_hz"] for entry in classes)])
    return low, high


def _psd_summary(rows: Sequence[ClipStats]) -> dict[str, Any]:
    audible = [row.psd_db for row in rows if row.fmin_eff_hz is not None]
    length = max((len(psd) for psd in audible), default=0)
    centers = psd_band_centers_hz(max(row.sample_rate_hz for row in rows) / 2)[:length]
    table = np.full((len(audible), length), np.nan)
    for index, psd in enumerate(audible):
        table[index, : len(psd)] = psd
    levels = np.nanquantile(table, [0.1, 0.5, 0.9], axis=0) if length else np.empty((3, 0))
    return {
        "frequency_hz": centers.tolist(),
        "p10_db": levels[0].tolist(),
        "p50_db": levels[1].tolist(),
        "p90_db": levels[2].tolist(),
    }


def _quantiles(values: Values) -> dict[str, float]:
    inner = {name: float(np.quantile(values, at)) for name, at in QUANTILES.items()}
    return {"min": float(values.min()), **inner, "max": float(values.max())}


def _histogram(values: Values) -> dict[str, list[float]]:
    low, high = float(values.min()), float(values.max())
    if high - low < 1e-6 * max(abs(high), 1.0):
        low, high = low - 0.5, high + 0.5
    counts, edges = np.histogram(values, bins=HISTOGRAM_BINS, range=(low, high))
    return {"edges": edges.tolist(), "counts": counts.tolist()}


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.median(np.array(known))) if known else None


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def rounded(value: Any) -> Any:
    """Round every float to six significant digits, so that the last bits never show."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(item) for item in value]
    return value
