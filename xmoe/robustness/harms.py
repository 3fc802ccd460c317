"""What can be done to a recording, each in steps from mild to harsh.

A harm is a function of samples [S] and their rate; it returns samples and their new rate. The
random numbers depend on the clip and the harm, not on the level: a clip gets the same noise at
every SNR, so a curve shows the level and not the draw.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import soundfile as sf

from xmoe.audio.augment import NoiseColor, add_noise, clip_peaks, gain_db, high_pass
from xmoe.audio.resample import resample
from xmoe.audio.samples import LOWEST_RATE_HZ
from xmoe.base.config import SpectroConfig

Samples = npt.NDArray[np.float32]
Apply = Callable[[Samples, int, float, np.random.Generator], tuple[Samples, int]]

SNRS_DB = (30.0, 20.0, 10.0, 0.0, -10.0)
CLIPPED = (0.001, 0.01, 0.05, 0.2)
LEVELS_DB = (-20.0, -40.0, -60.0, -80.0)
LOUDER_DB = (6.0, 12.0, 24.0, 36.0)
BITS = (12.0, 8.0, 6.0, 4.0)
COMPRESSION = (0.0, 0.5, 1.0)
RATE_SHARES = (2, 4, 8)
CUT_SHARES = (64, 16, 8, 4)
VORBIS_MOST_HZ = 96_000
FULL_SCALE_16 = 32_767.0


@dataclass(frozen=True)
class Harm:
    """One way to make a recording worse: ``levels`` in ``unit`` from mild to harsh.

    ``sense`` is a word before the level, if it needs one. Recordings above ``most_hz`` cannot go
    through it.
    """

    name: str
    title: str
    unit: str
    levels: tuple[float, ...]
    apply: Apply
    sense: str = ""
    most_hz: float = float("inf")


def list_harms(spectro: SpectroConfig) -> tuple[Harm, ...]:
    """The harms, with levels that fit the rate and highest frequency of a front end.

    A harm without such a level is left out.
    """
    rates = tuple(float(round(spectro.sample_rate_hz / share)) for share in RATE_SHARES)
    cuts = tuple(float(round(spectro.fmax_hz / share)) for share in CUT_SHARES)
    rates = tuple(rate for rate in rates if rate >= LOWEST_RATE_HZ)
    harms = (
        Harm("white_noise", "White noise", "dB SNR", SNRS_DB, _noise("white")),
        Harm("pink_noise", "Pink noise", "dB SNR", SNRS_DB, _noise("pink")),
        Harm("sample_rate", "Lower sample rate", "Hz", rates, _lower_rate),
        Harm("high_pass", "High-pass filter", "Hz", cuts, _high_pass, sense="below"),
        Harm("clipping", "Clipped peaks", "share of samples", CLIPPED, _at_one_rate(clip_peaks)),
        # Over full scale the peaks are cut off; far below it 16 bits are coarse.
        Harm("louder", "Too loud, 16 bit", "dB over full scale", LOUDER_DB, _at_one_rate(_store)),
        Harm("quieter", "Too quiet, 16 bit", "dB full scale", LEVELS_DB, _at_one_rate(_store)),
        Harm("bits", "Fewer bits", "bits", BITS, _at_one_rate(_quantise)),
        Harm("vorbis", "Vorbis codec", "compression", COMPRESSION, _code, most_hz=VORBIS_MOST_HZ),
    )
    return tuple(harm for harm in harms if harm.levels)


def _noise(color: NoiseColor) -> Apply:
    return lambda samples, rate_hz, snr_db, rng: (
        add_noise(samples, snr_db=snr_db, color=color, rng=rng),
        rate_hz,
    )


def _at_one_rate(change: Callable[[Samples, float], Samples]) -> Apply:
    return lambda samples, rate_hz, level, _rng: (change(samples, level), rate_hz)


def _lower_rate(
    samples: Samples, rate_hz: int, to_hz: float, _rng: np.random.Generator
) -> tuple[Samples, int]:
    """The recording as a device of that rate would make it, unless its own is lower."""
    if to_hz >= rate_hz:
        return samples, rate_hz
    lower = resample(samples, from_hz=rate_hz, to_hz=round(to_hz))
    return np.asarray(lower, np.float32), round(to_hz)


def _high_pass(
    samples: Samples, rate_hz: int, cutoff_hz: float, _rng: np.random.Generator
) -> tuple[Samples, int]:
    return high_pass(samples, cutoff_hz=cutoff_hz, sample_rate_hz=rate_hz), rate_hz


def _store(samples: Samples, peak_db: float) -> Samples:
    """Store in 16 bits with the peak at ``peak_db`` re full scale."""
    scaled = gain_db(_to_full_scale(samples), peak_db)
    levels = np.round(np.clip(scaled, -1.0, 1.0) * FULL_SCALE_16)
    return np.asarray(levels / FULL_SCALE_16, np.float32)


def _quantise(samples: Samples, bits: float) -> Samples:
    """Round to so many bits with the peak at full scale, without dither."""
    steps = 2.0 ** (bits - 1) - 1
    return np.asarray(np.round(_to_full_scale(samples) * steps) / steps, np.float32)


def _code(
    samples: Samples, rate_hz: int, level: float, _rng: np.random.Generator
) -> tuple[Samples, int]:
    """Encode with Vorbis at a compression from 0 (best) to 1 (worst), and decode."""
    buffer, loud = io.BytesIO(), 0.9 * _to_full_scale(samples)  # the codec overshoots
    coding = {"format": "OGG", "subtype": "VORBIS", "compression_level": level}
    sf.write(buffer, loud, rate_hz, **coding)
    buffer.seek(0)
    coded: Samples = sf.read(buffer, dtype="float32")[0]
    return coded[: len(samples)], rate_hz


def _to_full_scale(samples: Samples) -> Samples:
    peak = float(np.abs(samples).max()) if len(samples) else 0.0
    return samples / np.float32(peak) if peak else samples
