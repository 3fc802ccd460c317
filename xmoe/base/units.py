"""Conversions between the units of the field: power to dB, Hz and mel; numpy, element-wise."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating]


def power_to_db(power: npt.ArrayLike, floor_db: float = -120.0) -> FloatArray:
    """10 log10(power), at least ``floor_db``."""
    floor = 10.0 ** (floor_db / 10.0)
    return np.asarray(10.0 * np.log10(np.maximum(np.asarray(power, dtype=np.float64), floor)))


def hz_to_mel(frequency_hz: npt.ArrayLike) -> FloatArray:
    """Mels on the HTK scale, 2595 log10(1 + f / 700)."""
    return np.asarray(2595.0 * np.log10(1.0 + np.asarray(frequency_hz, dtype=np.float64) / 700.0))


def mel_to_hz(mel: npt.ArrayLike) -> FloatArray:
    """Hz from mels on the HTK scale."""
    return np.asarray(700.0 * (10.0 ** (np.asarray(mel, dtype=np.float64) / 2595.0) - 1.0))


def format_hz(frequency_hz: float) -> str:
    """A readable frequency: ``850 Hz``, ``12.5 kHz``."""
    if round(frequency_hz) < 1000:
        return f"{frequency_hz:.0f} Hz"
    return f"{max(frequency_hz, 1000) / 1000:.4g} kHz"


def edges_between(centers: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """F + 1 edges halfway between rising centres [F]; the outer two lie as far outside."""
    middle = (centers[1:] + centers[:-1]) / 2
    first = max(0.0, 2 * centers[0] - middle[0])
    return np.concatenate([[first], middle, [2 * centers[-1] - middle[-1]]])
