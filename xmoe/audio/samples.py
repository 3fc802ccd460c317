"""An array of samples -> mono float32, or why it is not a recording.

numpy, torch or a list, floats or PCM integers, of shape [S], [channels, S] or [S, channels]; the
longer side is time.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from os import PathLike
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from xmoe.audio.tally import PLAUSIBLE_PEAK, mark_clipped
from xmoe.base.errors import InputError

# What counts as a recording, whether it comes as a file, as an array or in a stream.
LOWEST_RATE_HZ, HIGHEST_RATE_HZ = 1_000, 384_000
SHORTEST_S = 0.01
MOST_CHANNELS = 8

_PCM = (np.dtype(np.uint8), np.dtype(np.int16), np.dtype(np.int32))
_SHAPES = "give floats from -1 to 1, int16 or int32 of shape [S], [channels, S] or [S, channels]"


class Decoded(NamedTuple):
    """Mono samples [S] of a recording; ``clipped_rate`` as in ``Clip``, ``notes`` on its file."""

    samples: npt.NDArray[np.float32]
    sample_rate_hz: int
    clipped_rate: float
    notes: tuple[str, ...] = ()


def check_samples(audio: Any, sample_rate_hz: int | None) -> Decoded:
    """Check an array of samples and mix it down; InputError if it is not a recording."""
    if isinstance(audio, (list, tuple)) and _is_no_array(audio):
        what = f"a {type(audio).__name__} of {len(audio)} is not one recording"
        mend = "give one recording, and the rate of samples by itself; predict_proba takes several"
        raise InputError(what, where="audio", mend=mend)
    given: Any = sample_rate_hz
    if given is not None and not isinstance(given, Real):
        what = f"a rate is a number of Hz, not {sample_rate_hz!r}"
        raise InputError(what, where="sample_rate_hz", mend="give it as a number, such as 44100")
    if sample_rate_hz is None or not LOWEST_RATE_HZ <= sample_rate_hz <= HIGHEST_RATE_HZ:
        what = f"samples came with a rate of {sample_rate_hz} Hz"
        mend = f"give the rate of the samples, from {LOWEST_RATE_HZ} to {HIGHEST_RATE_HZ} Hz"
        raise InputError(what, where="sample_rate_hz", mend=mend)
    samples, full_scale = _to_floats(audio)
    if samples.ndim == 1:
        samples = samples[:, np.newaxis]
    elif samples.shape[0] < samples.shape[1] or samples.size == 0:
        samples = samples.T
    frames, channels = samples.shape
    if channels > MOST_CHANNELS:
        what = f"samples of shape {np.shape(audio)} have {channels} channels"
        mend = f"give at most {MOST_CHANNELS}; several recordings go to predict_proba"
        raise InputError(what, where="audio", mend=mend)
    if frames / sample_rate_hz < SHORTEST_S or not channels:
        mend = f"give at least {SHORTEST_S * 1000:g} ms"
        raise InputError(f"{frames * channels} samples are too few", where="audio", mend=mend)
    peak = max(-float(samples.min()), float(samples.max()))
    if not np.isfinite(peak):
        raise InputError("samples are not finite", where="audio", mend="leave out NaN and infinity")
    if peak > PLAUSIBLE_PEAK:
        mend = "give samples from -1 to 1"
        raise InputError(f"there is a sample of {peak:.3g}", where="audio", mend=mend)
    clipped = float(mark_clipped(samples, full_scale=full_scale).mean())
    mono = samples[:, 0] if channels == 1 else samples.mean(1)
    return Decoded(np.ascontiguousarray(mono), int(sample_rate_hz), clipped)


def _is_no_array(given: Sequence[Any]) -> bool:
    """Whether these are names of files, or samples and their rate in one."""
    if any(isinstance(one, (str, PathLike)) for one in given):
        return True
    return len(given) == 2 and np.ndim(given[0]) > 0 and np.ndim(given[1]) == 0


def _to_floats(audio: Any) -> tuple[npt.NDArray[np.float32], float]:
    """An array [S] or [a, b] as float32, and its full scale; integers are PCM."""
    if hasattr(audio, "detach"):  # a torch tensor on any device
        audio = audio.detach().cpu()
        audio = (audio.float() if audio.is_floating_point() else audio).numpy()
    try:
        samples = np.asarray(audio)
        samples = samples.astype(samples.dtype.newbyteorder("="), copy=False)
    except ValueError:  # a list of lists of different lengths
        what = "lists of different lengths are not a recording"
        raise InputError(what, where="audio", mend=_SHAPES) from None
    pcm = samples.dtype in _PCM
    if samples.ndim not in (1, 2) or not (pcm or np.issubdtype(samples.dtype, np.floating)):
        what = f"samples of type {samples.dtype} and shape {samples.shape} are not a recording"
        mend = f"{_SHAPES}; several recordings go to predict_proba"
        raise InputError(what, where="audio", mend=mend)
    if not pcm:
        with np.errstate(over="ignore"):
            return samples.astype(np.float32), 1.0 - 2.0**-15
    bits = samples.dtype.itemsize * 8
    middle = 128.0 if bits == 8 else 0.0
    scaled = (samples.astype(np.float64) - middle) / 2.0 ** (bits - 1)
    return scaled.astype(np.float32), 1.0 - 2.0 ** (1 - min(bits, 24))
