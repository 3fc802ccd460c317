"""A waveform -> a worse one: coloured noise, clipped peaks, missing bands, another level.

Used for the noisy copies of the probe and to measure robustness. Pure functions of numpy samples
[S]; random numbers come from a ``numpy.random.Generator``. Filters work in the frequency domain
with zero phase, so nothing is delayed and clips may have any length.
"""

from __future__ import annotations

from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt

NoiseColor = Literal["white", "pink", "brown"]
FloatT = TypeVar("FloatT", np.float32, np.float64)

NOISE_EXPONENTS: dict[NoiseColor, float] = {"white": 0.0, "pink": 1.0, "brown": 2.0}
_FILTER_ORDER = 8
_MAX_PAD = 4096


def add_noise(
    samples: npt.NDArray[FloatT],
    *,
    snr_db: float,
    color: NoiseColor = "white",
    rng: np.random.Generator,
) -> npt.NDArray[FloatT]:
    """Add noise so that signal power over noise power is exactly ``snr_db``.

    Noise power falls with frequency as 1 / f^0 (white), 1 / f (pink) or 1 / f^2 (brown). A silent
    clip has no SNR and is returned unchanged.
    """
    power = float(np.mean(np.square(samples, dtype=np.float64))) if len(samples) else 0.0
    if power == 0.0:
        return samples.copy()
    noise = coloured_noise(len(samples), exponent=NOISE_EXPONENTS[color], rng=rng)
    gain = np.sqrt(power / 10 ** (snr_db / 10))
    noisy: npt.NDArray[FloatT] = (samples + gain * noise).astype(samples.dtype)
    return noisy


def coloured_noise(
    length: int, *, exponent: float, rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Gaussian noise [S] of mean power 1 whose power falls as 1 / f^exponent."""
    noise = rng.standard_normal(length)
    if exponent != 0.0 and length > 1:
        spectrum = np.fft.rfft(noise)
        shape = np.arange(len(spectrum), dtype=np.float64)
        shape[0] = np.inf
        noise = np.fft.irfft(spectrum * shape ** (-exponent / 2), length)
    return np.asarray(noise / np.sqrt(np.mean(noise**2)))


def clip_peaks(samples: npt.NDArray[FloatT], fraction: float) -> npt.NDArray[FloatT]:
    """Clip the loudest ``fraction`` of the samples at one level, which becomes the new peak."""
    if fraction <= 0.0 or len(samples) == 0:
        return samples.copy()
    level = float(np.quantile(np.abs(samples), max(1.0 - fraction, 0.0)))
    return np.clip(samples, -level, level).astype(samples.dtype)


def low_pass(
    samples: npt.NDArray[FloatT], *, cutoff_hz: float, sample_rate_hz: int
) -> npt.NDArray[FloatT]:
    """Remove what lies above ``cutoff_hz`` (-3 dB there, 48 dB per octave)."""
    return _filter(samples, cutoff_hz, sample_rate_hz, order=_FILTER_ORDER)


def high_pass(
    samples: npt.NDArray[FloatT], *, cutoff_hz: float, sample_rate_hz: int
) -> npt.NDArray[FloatT]:
    """Remove what lies below ``cutoff_hz`` (-3 dB there, 48 dB per octave)."""
    return _filter(samples, cutoff_hz, sample_rate_hz, order=-_FILTER_ORDER)


def gain_db(samples: npt.NDArray[FloatT], level_db: float) -> npt.NDArray[FloatT]:
    """Scale a clip by ``level_db``, without clipping."""
    return (samples * 10 ** (level_db / 20)).astype(samples.dtype)


def _filter(
    samples: npt.NDArray[FloatT], cutoff_hz: float, sample_rate_hz: int, *, order: int
) -> npt.NDArray[FloatT]:
    """Weight the spectrum like a Butterworth filter; mirrored ends avoid edge transients."""
    if len(samples) == 0:
        return samples.copy()
    pad = min(len(samples) - 1, _MAX_PAD)
    padded = np.pad(samples.astype(np.float64), pad, mode="reflect")
    frequencies = np.fft.rfftfreq(len(padded), 1.0 / sample_rate_hz)
    with np.errstate(divide="ignore", over="ignore"):
        magnitude = 1.0 / np.sqrt(1.0 + (frequencies / cutoff_hz) ** (2 * order))
    filtered = np.fft.irfft(np.fft.rfft(padded) * magnitude, len(padded))
    return filtered[pad : pad + len(samples)].astype(samples.dtype)
