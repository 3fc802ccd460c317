"""A recording -> warnings about it: it can be answered, but the answer can hardly be trusted."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

SILENT_PEAK = 1e-4
CLIPPED_SHARE = 0.01
LOUD_PEAK = 16.0


def find_doubts(
    samples: npt.NDArray[np.float32], sample_rate_hz: int, clipped_rate: float, *, fmax_hz: float
) -> list[str]:
    """Return warnings about a recording [S] that need no training profile.

    They tell silence, clipping, samples that are no floats from -1 to 1, and a rate too low for the
    model's band, which ends at ``fmax_hz``.
    """
    doubts = []
    low, high = float(samples.min(initial=0.0)), float(samples.max(initial=0.0))
    if clipped_rate > CLIPPED_SHARE:
        doubts.append(f"clipped: {clipped_rate:.0%} of the samples are at full scale")
    elif len(samples) and float(np.ptp(samples)) < 2 * SILENT_PEAK:
        doubts.append(
            "silent: there is no sound in this recording, or its channels cancel each other"
        )
    if (peak := max(-low, high)) > LOUD_PEAK:
        doubts.append(f"level: samples reach {peak:g}; full scale is 1, so divide integers by it")
    if sample_rate_hz / 2 < 0.95 * fmax_hz:
        doubts.append(
            f"band: sampled at {sample_rate_hz} Hz it holds nothing above "
            f"{sample_rate_hz / 2:g} Hz; the model looks up to {fmax_hz:g} Hz"
        )
    return doubts
