"""PCM as it arrives -> windows of samples, at the same places whatever the pieces were.

Window k begins at sample ``k * hop_samples``, exactly. Pieces may end inside a sample.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Encoding = Literal["pcm_s16le", "pcm_f32le"]
BYTES = {"pcm_s16le": 2, "pcm_f32le": 4}
FULL_SCALE = 32768.0


@dataclass(frozen=True, eq=False)
class Window:
    """Samples [S] of a stream and where they begin in it, counted in samples."""

    index: int
    start_sample: int
    samples: npt.NDArray[np.float32]

    @property
    def end_sample(self) -> int:
        """The sample after the last."""
        return self.start_sample + len(self.samples)


class WindowCutter:
    """Keeps what has come and gives out windows; what no later window needs is let go."""

    def __init__(self, encoding: Encoding, *, window_samples: int, hop_samples: int) -> None:
        assert window_samples > 0
        assert hop_samples > 0
        self._encoding: Encoding = encoding
        self._width = BYTES[encoding]
        self._window = window_samples
        self._hop = hop_samples
        self._buffer = bytearray()
        self._first = 0
        self._count = 0

    @property
    def received(self) -> int:
        """Whole samples that have come."""
        return self._first + len(self._buffer) // self._width

    @property
    def ahead(self) -> int:
        """Samples that have come and lie in no window given out so far."""
        done = (self._count - 1) * self._hop + self._window if self._count else 0
        return max(0, self.received - done)

    def push(self, piece: bytes) -> None:
        """Take bytes of any number."""
        self._buffer += piece

    def take(self, most: int) -> list[Window]:
        """Return the windows that are complete, ``most`` at most, in their order."""
        windows: list[Window] = []
        while len(windows) < most and self._count * self._hop + self._window <= self.received:
            windows.append(self._cut(self._count * self._hop, self._window))
        return windows

    def finish(self) -> Window | None:
        """Return the window flush with the end where samples are left that lie in none."""
        if self.ahead == 0:
            return None
        length = min(self._window, self.received)
        return self._cut(self.received - length, length)

    def _cut(self, start: int, length: int) -> Window:
        """Return a window, and let go of what lies before it: later ones begin after it."""
        del self._buffer[: (start - self._first) * self._width]
        self._first = start
        raw = bytes(self._buffer[: length * self._width])
        window = Window(self._count, start, read_pcm(raw, self._encoding))
        self._count += 1
        return window


def read_pcm(raw: bytes, encoding: Encoding) -> npt.NDArray[np.float32]:
    """Return samples [S] of whole little-endian PCM; 16 bit becomes -1 to 1."""
    if encoding == "pcm_f32le":
        return np.frombuffer(raw, "<f4").astype(np.float32)
    return np.frombuffer(raw, "<i2").astype(np.float32) / np.float32(FULL_SCALE)
