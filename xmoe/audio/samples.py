"""Samples that came as numbers -> mono float32, or why they are no recording."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from xmoe.base.errors import InputError

# What is a recording, whether it comes as a file, as numbers or in a stream.
LOWEST_RATE_HZ, HIGHEST_RATE_HZ = 1_000, 384_000
SHORTEST_S = 0.01


def check_samples(
    audio: npt.NDArray[np.floating], sample_rate_hz: int | None
) -> npt.NDArray[np.float32]:
    """Return samples [S], channels mixed down; InputError where they are no recording."""
    if sample_rate_hz is None or not LOWEST_RATE_HZ <= sample_rate_hz <= HIGHEST_RATE_HZ:
        raise InputError(
            f"samples came with a rate of {sample_rate_hz} Hz",
            where="sample_rate_hz",
            mend=f"give the rate of the samples, from {LOWEST_RATE_HZ} to {HIGHEST_RATE_HZ} Hz",
        )
    samples = np.asarray(audio)
    if samples.ndim not in (1, 2) or not np.issubdtype(samples.dtype, np.floating):
        raise InputError(
            f"samples of type {samples.dtype} and shape {samples.shape} are no recording",
            where="audio",
            mend="give floats from -1 to 1 of shape [S] or [channels, S]",
        )
    with np.errstate(over="ignore"):
        samples = samples.astype(np.float32)
    if samples.ndim == 2:
        samples = samples.mean(0)
    if len(samples) / sample_rate_hz < SHORTEST_S:
        raise InputError(
            f"{len(samples)} samples are too few",
            where="audio",
            mend=f"give at least {SHORTEST_S * 1000:g} ms",
        )
    if not bool(np.isfinite(samples).all()):
        raise InputError("samples are not finite", where="audio", mend="leave out NaN and infinity")
    return np.ascontiguousarray(samples)
