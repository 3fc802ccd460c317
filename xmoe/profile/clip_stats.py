"""One clip -> one row of numbers: level, band, SNR, transients, clipping, silence, codec limit.

Every measure has its formula in its docstring. Rows are plain values, so they travel to and from
Ray workers and Parquet unchanged; the same clip gives the same row on any worker.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from xmoe.audio.clip import read_clip
from xmoe.audio.dataset import Example
from xmoe.audio.quarantine import Quarantined
from xmoe.audio.remote import locate
from xmoe.base.errors import AudioError
from xmoe.profile.spectrum import (
    band_limit_hz,
    effective_band,
    measure_spectrum,
    psd_bands_db,
    snr_proxy_db,
    spectral_flatness,
)

Samples = npt.NDArray[np.floating]

LEVEL_FLOOR_DB, SILENT_DB, SILENT_BELOW_LOUDEST_DB = -120.0, -90.0, -60.0
SILENCE_FRAME_S = 0.02
# Long clips are summed block by block, to bound the memory of their squares.
_BLOCK = 2**20


@dataclass(frozen=True)
class SignalStats:
    """The measures of one waveform; formulas in the functions below.

    ``fmin_eff_hz`` and ``fmax_eff_hz`` are None for silence; ``band_limit_hz`` is None for a file
    that is not band-limited. ``psd_db`` is the coarse spectrum at ``psd_band_centers_hz``.
    """

    rms_db: float
    kurtosis: float
    silence_rate: float
    fmin_eff_hz: float | None
    fmax_eff_hz: float | None
    snr_db: float
    flatness: float
    band_limit_hz: float | None
    psd_db: tuple[float, ...]


@dataclass(frozen=True)
class ClipFacts:
    """A clip's place in the data set, and the facts of its file and samples.

    The clip is the file from ``start_s`` to ``end_s``, or to its end if that is None.
    """

    clip_id: str
    filepath: str
    start_s: float
    end_s: float | None
    labels: tuple[str, ...]
    split: str
    group: str | None
    sample_rate_hz: int
    channels: int
    bit_depth: int
    format: str
    duration_s: float
    peak: float
    clipping_rate: float
    content_sha256: str


@dataclass(frozen=True)
class ClipStats(SignalStats, ClipFacts):
    """One row of the per-clip table: the facts of the clip, then its measures."""

    @property
    def label(self) -> str:
        """The labels as one string, ``a;b`` for several."""
        return ";".join(self.labels)


def central_moments(samples: Samples) -> tuple[float, float]:
    """Second and fourth central moment of [S], summed in float64 blocks."""
    if not len(samples):
        return 0.0, 0.0
    mean = samples.mean(dtype=np.float64)
    second = fourth = 0.0
    for first in range(0, len(samples), _BLOCK):
        square = (samples[first : first + _BLOCK] - mean) ** 2
        second += float(square.sum())
        fourth += float((square * square).sum())
    return second / len(samples), fourth / len(samples)


def level_db(mean_square: float) -> float:
    """10 log10 of the mean square around the mean, dB re full scale, at least -120 dB.

    A full-scale sine is -3.01 dB; a constant offset does not count.
    """
    return float(max(10.0 * np.log10(max(mean_square, 1e-30)), LEVEL_FLOOR_DB))


def excess_kurtosis(second: float, fourth: float) -> float:
    """m4 / m2^2 - 3: 0 for Gaussian noise, -1.5 for a sine, large for clicks; 0 if silent.

    n unit impulses in S samples give about S / n - 3.
    """
    return fourth / second**2 - 3.0 if second > 1e-15 else 0.0


def silence_rate(samples: Samples, sample_rate_hz: int) -> float:
    """Share of 20 ms frames below -90 dB re full scale or 60 dB below the loudest frame.

    A frame's level is its variance, so an offset does not count. A clip shorter than a frame is one
    frame; an empty one is all silence.
    """
    if not len(samples):
        return 1.0
    length = min(max(round(SILENCE_FRAME_S * sample_rate_hz), 1), len(samples))
    whole = samples[: len(samples) // length * length].reshape(-1, length)
    rows = max(_BLOCK // length, 1)
    power = np.concatenate(
        [whole[i : i + rows].astype(np.float64).var(axis=1) for i in range(0, len(whole), rows)]
    )
    relative = float(power.max()) * 10.0 ** (SILENT_BELOW_LOUDEST_DB / 10.0)
    return float((power < max(relative, 10.0 ** (SILENT_DB / 10.0))).mean())


def measure_samples(samples: Samples, *, sample_rate_hz: int, bit_depth: int = 16) -> SignalStats:
    """Every measure of one mono waveform [S], full scale = 1, finite."""
    second, fourth = central_moments(samples)
    spectrum = measure_spectrum(samples, sample_rate_hz)
    silent = silence_rate(samples, sample_rate_hz)
    band = None if silent == 1.0 else effective_band(spectrum)
    return SignalStats(
        rms_db=level_db(second),
        kurtosis=excess_kurtosis(second, fourth),
        silence_rate=silent,
        fmin_eff_hz=band[0] if band else None,
        fmax_eff_hz=band[1] if band else None,
        snr_db=snr_proxy_db(spectrum),
        flatness=spectral_flatness(spectrum),
        band_limit_hz=band_limit_hz(spectrum, bit_depth) if band else None,
        psd_db=psd_bands_db(spectrum),
    )


def measure_example(root: Path, example: Example) -> ClipStats | Quarantined:
    """Read and measure one clip of a data set; an unusable clip becomes a quarantine row.

    Only ``AudioError`` is caught: any other error is a bug and stops the run.
    """
    try:
        clip = read_clip(
            locate(root, example.filepath),
            start_s=example.start_s,
            end_s=example.end_s,
            name=example.filepath,
        )
    except AudioError as error:
        return Quarantined.from_error(example.filepath, error)
    signal = measure_samples(
        clip.samples, sample_rate_hz=clip.sample_rate_hz, bit_depth=clip.info.bit_depth
    )
    return ClipStats(
        clip_id=example.clip_id,
        filepath=example.filepath,
        start_s=example.start_s,
        end_s=example.end_s,
        labels=example.labels,
        split=example.split,
        group=example.group,
        sample_rate_hz=clip.sample_rate_hz,
        channels=clip.info.channels,
        bit_depth=clip.info.bit_depth,
        format=clip.info.format,
        duration_s=clip.duration_s,
        peak=clip.peak,
        clipping_rate=clip.clipped_rate,
        content_sha256=clip.content_sha256,
        **vars(signal),
    )
