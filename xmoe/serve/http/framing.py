"""A stream's PCM -> samples; messages may end inside a sample."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from xmoe.serve.schemas import Encoding

BYTES = {"pcm_s16le": 2, "pcm_f32le": 4}
FULL_SCALE = 32768.0


class PcmReader:
    """Bytes in pieces of any size -> samples; an incomplete sample waits for its rest."""

    def __init__(self, encoding: Encoding) -> None:
        self._encoding: Encoding = encoding
        self._rest = b""

    def read(self, piece: bytes) -> npt.NDArray[np.float32]:
        """The samples [S] that this piece completes."""
        raw = self._rest + piece
        whole = len(raw) - len(raw) % BYTES[self._encoding]
        self._rest = raw[whole:]
        return read_pcm(raw[:whole], self._encoding)


def read_pcm(raw: bytes, encoding: Encoding) -> npt.NDArray[np.float32]:
    """Samples [S] of whole little-endian PCM; 16 bit becomes -1 to 1."""
    if encoding == "pcm_f32le":
        return np.frombuffer(raw, "<f4").astype(np.float32)
    return np.frombuffer(raw, "<i2").astype(np.float32) / np.float32(FULL_SCALE)
