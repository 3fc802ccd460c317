"""One incoming recording -> the measures that are compared with training.

The formulas of the training set's profile, on fewer frames of a long recording to keep requests
cheap: one short-time Fourier transform of at most ``MAX_CELLS`` cells.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xmoe.profile.clip_stats import level_db, silence_rate
from xmoe.profile.quality import clip_quality
from xmoe.profile.spectrum import band_limit_hz, effective_band, measure_spectrum, snr_proxy_db

MAX_CELLS = 2**15

Samples = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Incoming:
    """The measures of one recording; ``fmax_eff_hz`` is None for silence.

    Named and defined as in ``xmoe.profile.clip_stats``.
    """

    sample_rate_hz: int
    duration_s: float
    rms_db: float
    clipping_rate: float
    silence_rate: float
    snr_db: float
    fmax_eff_hz: float | None
    band_limit_hz: float | None

    @property
    def quality(self) -> float:
        """Q in [0, 1], as in ``xmoe.profile.quality``."""
        return clip_quality(self)


def measure_incoming(samples: Samples, sample_rate_hz: int, clipping_rate: float) -> Incoming:
    """The measures of a recording [S] at full scale 1."""
    spectrum = measure_spectrum(samples, sample_rate_hz, max_cells=MAX_CELLS)
    silent = silence_rate(samples, sample_rate_hz)
    band = None if silent == 1.0 else effective_band(spectrum)
    return Incoming(
        sample_rate_hz=sample_rate_hz,
        duration_s=len(samples) / sample_rate_hz,
        rms_db=level_db(float(samples.var(dtype=np.float64))),
        clipping_rate=clipping_rate,
        silence_rate=silent,
        snr_db=snr_proxy_db(spectrum),
        fmax_eff_hz=band[1] if band else None,
        band_limit_hz=band_limit_hz(spectrum) if band else None,
    )
