"""Samples [S] -> power per frame and bin [T, F], and the measures derived from it.

One short-time Fourier transform per clip feeds every spectral measure: effective band, flatness,
SNR proxy, codec band limit and the coarse spectrum that a profile draws. All sums are float64 and
no BLAS call is made, so the numbers do not depend on the number of threads or workers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import median_filter

from xmoe.base.units import power_to_db

Array = npt.NDArray[np.float64]

FRAME_S = 0.05
MIN_FRAME = 64
MAX_CELLS = 2**21
PSD_BANDS_PER_OCTAVE = 6
PSD_FIRST_HZ = 20.0
PSD_FLOOR_DB = -200.0
SNR_RANGE_DB = (-20.0, 80.0)
BAND_TAIL = 0.01
BAND_LIMIT_SHARE = 0.85

_LOG_POINTS_PER_OCTAVE = 24
_QUIET_SHARE = 0.2
_SILENT_FRAME_RATIO = 1e-9
_BLOCK_FRAMES = 256


@dataclass(frozen=True)
class Spectrum:
    """Power spectral density of a clip, in full-scale squared per Hz.

    ``power`` is [T, F], ``psd`` its mean over frames [F], ``frequency_hz`` [F] ascending from 0.
    """

    power: Array
    psd: Array
    frequency_hz: Array
    sample_rate_hz: int

    @property
    def nyquist_hz(self) -> float:
        return self.sample_rate_hz / 2

    @property
    def silent(self) -> bool:
        return not bool(self.psd[1:].any())


def frame_length(num_samples: int, sample_rate_hz: int) -> int:
    """The frame in samples: the power of two nearest to 50 ms, halved for very short clips."""
    length = int(2 ** round(np.log2(FRAME_S * sample_rate_hz)))
    while length > MIN_FRAME and num_samples < 4 * length:
        length //= 2
    return max(length, MIN_FRAME)


def measure_spectrum(
    samples: npt.NDArray[np.floating], sample_rate_hz: int, *, max_cells: int = MAX_CELLS
) -> Spectrum:
    """One-sided power of half-overlapping Hann frames of ``samples`` [S], each without its mean.

    ``psd.sum() * bin_width`` equals the mean square (Parseval). A long clip is represented by
    evenly spread frames, at most ``max_cells`` cells, so memory is bounded.

    Source: Welch 1967, IEEE Trans. Audio Electroacoustics 15(2).
    """
    length = frame_length(len(samples), sample_rate_hz)
    if len(samples) < length:
        samples = np.pad(samples, (0, length - len(samples)))
    starts = np.arange(0, len(samples) - length + 1, length // 2)
    num_bins = length // 2 + 1
    most = max(max_cells // num_bins, 8)
    if len(starts) > most:
        starts = starts[np.linspace(0, len(starts) - 1, most).round().astype(np.int64)]
    window = np.hanning(length + 1)[:-1]
    scale = 1.0 / (sample_rate_hz * float((window**2).sum()))
    frames = np.lib.stride_tricks.sliding_window_view(samples, length)
    power = np.empty((len(starts), num_bins))
    for first in range(0, len(starts), _BLOCK_FRAMES):
        chosen = starts[first : first + _BLOCK_FRAMES]
        block = frames[chosen].astype(np.float64)
        transform = np.fft.rfft((block - block.mean(axis=1, keepdims=True)) * window, axis=1)
        power[first : first + len(chosen)] = (transform.real**2 + transform.imag**2) * scale
    power[:, 1:-1] *= 2.0
    frequency_hz = np.arange(num_bins, dtype=np.float64) * (sample_rate_hz / length)
    return Spectrum(power, power.mean(axis=0), frequency_hz, sample_rate_hz)


def effective_band(spectrum: Spectrum) -> tuple[float, float] | None:
    """(fmin_eff, fmax_eff) in Hz, or None for a silent clip.

    The band holds the middle 98 % of the cumulative *amplitude* density sqrt(PSD): it starts where
    the running sum over bins passes 1 % and ends where it passes 99 %. Summing power instead would
    let a low rumble hide everything above it: half of a set of ship recordings ends at 7 kHz by
    power and at the true 12.7 kHz by amplitude.
    """
    if spectrum.silent:
        return None
    running = np.cumsum(np.sqrt(spectrum.psd[1:]))
    low, high = np.searchsorted(running, np.array([BAND_TAIL, 1.0 - BAND_TAIL]) * running[-1])
    last = len(running) - 1
    return float(spectrum.frequency_hz[1 + min(low, last)]), float(
        spectrum.frequency_hz[1 + min(high, last)]
    )


def spectral_flatness(spectrum: Spectrum) -> float:
    """Geometric over arithmetic mean of the PSD without the bin at 0 Hz, in [0, 1].

    1 is white noise, 0 a tone, a band-limited file or silence.

    Source: Gray and Markel 1974, IEEE Trans. ASSP 22(3).
    """
    if spectrum.silent:
        return 0.0
    psd = spectrum.psd[1:]
    return float(np.exp(np.log(np.maximum(psd, 1e-30)).mean()) / psd.mean())


def _log_grid(frequency_hz: Array) -> Array:
    low, high = float(frequency_hz[0]), float(frequency_hz[-1])
    octaves = np.log2(high / low)
    return low * 2.0 ** np.linspace(0.0, octaves, int(octaves * _LOG_POINTS_PER_OCTAVE) + 1)


def _octave_median(psd: Array, frequency_hz: Array) -> Array:
    """Median of the PSD over one octave around each bin: bridges tones, keeps slopes."""
    grid = _log_grid(frequency_hz)
    level = np.interp(grid, frequency_hz, np.log(np.maximum(psd, 1e-30)))
    smooth = median_filter(level, _LOG_POINTS_PER_OCTAVE + 1, mode="nearest")
    return np.asarray(np.exp(np.interp(frequency_hz, grid, smooth)))


def _quiet_psd(power: Array, psd: Array) -> Array:
    """Mean power of the quietest fifth of the frames [T, F] -> [F].

    Frames are ranked by their mean power over bins, each bin relative to its own mean over time
    (bins 50 dB below the strongest count less): a frame's rank then rests on many bins, and noise
    of any colour is hardly biased.
    """
    count = max(round(_QUIET_SHARE * len(power)), 1)
    loudness = (power / (psd + 1e-5 * psd.max())).mean(axis=1)
    quietest = np.sort(np.argsort(loudness, kind="stable")[:count])
    return np.asarray(power[quietest].mean(axis=0))


def noise_psd(spectrum: Spectrum) -> Array:
    """Estimated noise floor [F - 1], without the bin at 0 Hz.

    The octave median of the mean power removes steady tones; it is lowered by as much as the
    quietest frames lie below it (median over 17 bins), which removes what comes and goes; and it
    never exceeds the mean power. Frames more than 90 dB below the loudest are padding and do not
    count.

    Source: after Martin 2001, IEEE Trans. Speech Audio Process. 9(5), with frames for bins.
    """
    energy = spectrum.power[:, 1:].sum(axis=1)
    audible = spectrum.power[energy > _SILENT_FRAME_RATIO * energy.max(), 1:]
    psd = audible.mean(axis=0)
    tones_out = np.maximum(_octave_median(psd, spectrum.frequency_hz[1:]), 1e-30)
    ratio = median_filter(_quiet_psd(audible, psd) / tones_out, 17, mode="nearest")
    floor = np.minimum(tones_out * np.minimum(ratio, 1.0), psd)
    return np.asarray(floor * (len(audible) / len(energy)))


def snr_proxy_db(spectrum: Spectrum) -> float:
    """10 log10((total - noise) / noise) over the whole clip, within -20..80 dB.

    It needs no reference, so it is a proxy: sound that is steady *and* broad (rain, a ship) counts
    as noise. Silence gives -20.
    """
    low, high = SNR_RANGE_DB
    if spectrum.silent:
        return low
    total = float(spectrum.psd[1:].sum())
    noise = float(noise_psd(spectrum).sum())
    ratio = (total - noise) / max(noise, 1e-30)
    return float(np.clip(10.0 * np.log10(max(ratio, 1e-30)), low, high))


def band_limit_hz(spectrum: Spectrum, bit_depth: int = 16) -> float | None:
    """Where a codec or upsampling cut the spectrum off, or None.

    A limit is a cliff that nature does not make: within a sixth of an octave the level falls by 20
    dB down to the rounding noise of the file's own bit depth (at most 16 bits; 10 dB of grace), or
    by 50 dB to any level, and stays there up to Nyquist. Cliffs above 0.85 of Nyquist are ordinary
    anti-alias filters and are not reported. Accurate to about 4 %.
    """
    if spectrum.silent:
        return None
    frequency_hz = spectrum.frequency_hz[1:]
    grid = _log_grid(frequency_hz)
    grid = grid[grid >= spectrum.nyquist_hz / 20]
    width = max(5, len(frequency_hz) // 100) | 1
    smooth = median_filter(power_to_db(spectrum.psd[1:], PSD_FLOOR_DB), width, mode="nearest")
    level = np.interp(grid, frequency_hz, smooth)
    below = np.median(np.lib.stride_tricks.sliding_window_view(level, 5), axis=1)
    above = np.maximum.accumulate(level[::-1])[::-1]
    drop = below[:-4] - above[8:]
    at = int(np.argmax(drop))
    bits = bit_depth if 0 < bit_depth <= 16 else 16
    rounding = 10.0 * np.log10(4.0 ** (1 - bits) / 12.0 / spectrum.nyquist_hz) + 10.0
    if not (drop[at] >= 50.0 or (drop[at] >= 20.0 and above[at + 8] <= rounding)):
        return None
    edge = at + int(np.argmax(level[at : at + 9] < below[at] - min(drop[at] / 2, 20.0)))
    limit = float(grid[edge])
    return limit if limit < BAND_LIMIT_SHARE * spectrum.nyquist_hz else None


def psd_band_centers_hz(nyquist_hz: float) -> Array:
    """Centres of the coarse spectrum: six per octave from 20 Hz, below Nyquist."""
    count = int(np.floor(np.log2(max(nyquist_hz / PSD_FIRST_HZ, 1.0)) * PSD_BANDS_PER_OCTAVE)) + 1
    return np.asarray(PSD_FIRST_HZ * 2.0 ** (np.arange(count) / PSD_BANDS_PER_OCTAVE))


def psd_bands_db(spectrum: Spectrum) -> tuple[float, ...]:
    """The PSD in dB re full scale^2/Hz at ``psd_band_centers_hz``, to 0.1 dB.

    A band is the mean of the bins inside it; where there are none, their neighbours are
    interpolated.
    """
    centers = psd_band_centers_hz(spectrum.nyquist_hz)
    half = 2.0 ** (0.5 / PSD_BANDS_PER_OCTAVE)
    edges = np.searchsorted(spectrum.frequency_hz, np.stack([centers / half, centers * half], 1))
    count = edges[:, 1] - edges[:, 0]
    sums = np.add.reduceat(np.append(spectrum.psd, 0.0), edges.ravel())[::2]
    between = np.interp(centers, spectrum.frequency_hz[1:], spectrum.psd[1:])
    mean = np.where(count > 0, sums / np.maximum(count, 1), between)
    return tuple(np.round(power_to_db(mean, PSD_FLOOR_DB), 1).tolist())
