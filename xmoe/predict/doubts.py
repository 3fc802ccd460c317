"""A recording -> warnings: it can be answered, but the answer can hardly be trusted."""

from __future__ import annotations

from dataclasses import dataclass

from xmoe.audio.samples import Decoded

SILENT_PEAK = 1e-4
CLIPPED_SHARE = 0.01
LOUD_PEAK = 16.0  # no float recording; integers that were not divided


@dataclass(frozen=True)
class Levels:
    """Lowest and highest sample of a recording, and the share that is clipped."""

    low: float
    high: float
    clipped_rate: float


def find_doubts(decoded: Decoded, *, fmax_hz: float) -> list[str]:
    """Warnings about a recording that need no training profile; see ``judge_levels``."""
    levels = Levels(
        float(decoded.samples.min()), float(decoded.samples.max()), decoded.clipped_rate
    )
    return [*decoded.notes, *judge_levels(levels, decoded.sample_rate_hz, fmax_hz=fmax_hz)]


def judge_levels(levels: Levels, sample_rate_hz: int, *, fmax_hz: float) -> list[str]:
    """Warnings: silence, clipping, samples that are no floats from -1 to 1, a low rate.

    The rate is low where it cannot hold the model's band, which ends at ``fmax_hz``.
    """
    doubts = []
    if levels.clipped_rate > CLIPPED_SHARE:
        doubts.append(f"clipped: {levels.clipped_rate:.0%} of the samples are at full scale")
    elif levels.high - levels.low < 2 * SILENT_PEAK:
        doubts.append(
            "silent: there is no sound in this recording, or its channels cancel each other"
        )
    if (peak := max(-levels.low, levels.high)) > LOUD_PEAK:
        doubts.append(f"level: samples reach {peak:g}; full scale is 1, so divide integers by it")
    if sample_rate_hz / 2 < 0.95 * fmax_hz:
        doubts.append(
            f"band: sampled at {sample_rate_hz} Hz it holds nothing above "
            f"{sample_rate_hz / 2:g} Hz; the model looks up to {fmax_hz:g} Hz"
        )
    return doubts
