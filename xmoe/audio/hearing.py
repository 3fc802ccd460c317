"""A recording in any Python form -> mono float32 samples, or why it is not a recording.

A path, the bytes of a file, an open file, a decoded clip (``xmoe.audio.clip``, for one channel or a
time-expanded file), or samples as ``xmoe.audio.samples`` accepts them.
"""

from __future__ import annotations

import io
import os
from typing import Any, BinaryIO

import numpy.typing as npt

from xmoe.audio.clip import Clip, read_clip
from xmoe.audio.samples import LOWEST_RATE_HZ, MOST_CHANNELS, SHORTEST_S, Decoded, check_samples
from xmoe.base.errors import InputError

Audio = str | os.PathLike[str] | bytes | BinaryIO | Clip | npt.ArrayLike


def hear(audio: Any, sample_rate_hz: int | None = None) -> Decoded:
    """Decode a recording (see ``Audio``); only samples need a rate.

    Raises AudioError for a file that cannot be read, InputError for anything that is not a
    recording.
    """
    if isinstance(audio, io.TextIOBase):
        what, mend = "the file was opened as text", 'open it with mode "rb"'
        raise InputError(what, where=str(getattr(audio, "name", "audio")), mend=mend)
    if isinstance(audio, Clip):
        return audio.decoded
    if not is_stored(audio):
        return check_samples(audio, sample_rate_hz)
    if isinstance(audio, (bytes, bytearray, memoryview)):
        audio = io.BytesIO(audio)
    elif hasattr(audio, "read") and not audio.seekable():  # a pipe
        audio = io.BytesIO(audio.read())
    return read_clip(audio).decoded


def is_stored(audio: Any) -> bool:
    """Whether this is a file (a path, bytes or an open file) and not an array."""
    kinds = (str, os.PathLike, bytes, bytearray, memoryview)
    return isinstance(audio, kinds) or hasattr(audio, "read")


def is_one(audio: Any, sample_rate_hz: int | None) -> bool:
    """Whether this is one recording and not several.

    The rows of an array are recordings, as in scikit-learn, unless they are too short to be.
    """
    if is_stored(audio) or isinstance(audio, Clip):
        return True
    if not hasattr(audio, "ndim"):  # a list, a generator
        return False
    numbers = getattr(audio.dtype, "kind", "f") in "fiu"  # torch's types have no kind
    shortest = min(MOST_CHANNELS + 1, SHORTEST_S * (sample_rate_hz or LOWEST_RATE_HZ))
    return numbers and (audio.ndim == 1 or (audio.ndim == 2 and audio.shape[1] < shortest))
