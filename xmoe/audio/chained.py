"""Ogg streams one after another in a file (a radio's songs, ``cat a.ogg b.ogg``) -> one sound.

libsndfile reads the first stream and stops without an error. Here each stream is handed to it as a
file of its own, and seeking and reading carry on from one stream to the next.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import soundfile as sf

from xmoe.audio.containers import SPLIT_STREAMS
from xmoe.base.errors import AudioError


class ChainedSound:
    """The streams that start at bytes ``starts`` of a file, as one sound; one is open at a time.

    Raises AudioError if streams differ in rate, channels or coding, and whatever libsndfile raises.
    """

    def __init__(self, file: BinaryIO, starts: Sequence[int], where: str) -> None:
        ends = [*starts[1:], file.seek(0, os.SEEK_END)]
        self._parts = [_Part(file, *bounds) for bounds in zip(starts, ends, strict=True)]
        self._lengths = []
        kinds: dict[tuple[int, int, str], int] = {}
        for part in self._parts:
            part.seek(0)
            with sf.SoundFile(part) as sound:
                self._lengths.append(int(sound.frames))
                kinds.setdefault((sound.samplerate, sound.channels, sound.subtype), len(kinds))
        if len(kinds) > 1:
            each = " and ".join(f"{kind[0]} Hz x {kind[1]} {kind[2]}" for kind in list(kinds)[:2])
            what = f"holds {len(starts)} streams one after another that differ: {each}"
            raise AudioError("unsupported", what, where=where, mend=SPLIT_STREAMS)
        ((self.samplerate, self.channels, self.subtype),) = kinds
        self.format, self.streams = "OGG", len(self._parts)
        self.frames = sum(self._lengths)
        self._open(0)

    def _open(self, number: int) -> None:
        self._number = number
        self._parts[number].seek(0)
        self._sound = sf.SoundFile(self._parts[number])

    def seek(self, frame: int) -> None:
        """Go to a frame, counted from the start of the first stream."""
        number = 0
        while frame >= self._lengths[number] and number + 1 < len(self._parts):
            frame -= self._lengths[number]
            number += 1
        self.close()
        self._open(number)
        self._sound.seek(frame)

    def read(self, frames: int, **kind: Any) -> npt.NDArray[Any]:
        """The next frames, as from ``SoundFile.read``; fewer at the end of the last stream."""
        blocks = [self._sound.read(frames, **kind)]
        while (left := frames - sum(map(len, blocks))) and self._number + 1 < len(self._parts):
            self.close()
            self._open(self._number + 1)
            blocks.append(self._sound.read(left, **kind))
        return np.concatenate(blocks)

    def close(self) -> None:
        self._sound.close()

    def __enter__(self) -> ChainedSound:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Part(io.RawIOBase):
    """The bytes from ``start`` to ``end`` of a file, as a file."""

    def __init__(self, file: BinaryIO, start: int, end: int) -> None:
        self._file, self._start, self._size, self._at = file, start, end - start, 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        left = max(self._size - self._at, 0)
        self._file.seek(self._start + self._at)
        data = self._file.read(min(len(buffer), left))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)
