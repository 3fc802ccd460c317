"""Blocks of decoded samples -> hash, peak and clipping in one pass, whatever the block size.

An overdriven recorder writes the same full-scale value again and again. A sample counts as clipped
if it is in a run of at least three equal full-scale values of one channel; a single peak that just
touches full scale does not count. Lossy coding (MP3, Vorbis, Opus) rounds such runs off, so there
the rate says little.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

from xmoe.base.errors import AudioError

CLIPPED_RUN = 3
PLAUSIBLE_PEAK = 2.0**31

Block = npt.NDArray[np.float32]


class Tally:
    """Running measures of the samples so far: ``num_clipped``, ``peak`` and ``hexdigest()``.

    ``full_scale`` is the largest positive value the coding can hold.
    """

    def __init__(self, sample_rate_hz: int, channels: int, *, full_scale: float) -> None:
        self.peak = 0.0
        self.num_clipped = 0
        self.values = 0
        self._sha256 = hashlib.sha256(f"{sample_rate_hz}:{channels}:".encode())
        self._full_scale = np.float32(full_scale)
        self._tail: Block = np.empty((0, channels), dtype=np.float32)
        self._tail_marks = np.empty((0, channels), dtype=bool)

    @property
    def clipped_rate(self) -> float:
        return self.num_clipped / max(self.values, 1)

    def hexdigest(self) -> str:
        """SHA-256 of rate, channels and all samples so far, interleaved."""
        return self._sha256.hexdigest()

    def add(self, block: Block, *, where: str) -> None:
        """Count a block [n, channels]; refuse samples that are not finite, plausible numbers."""
        block_peak = max(-float(block.min()), float(block.max()))
        if not block_peak <= PLAUSIBLE_PEAK:
            finite = np.isfinite(block_peak)
            kind = f"a sample of {block_peak:.3g}" if finite else "samples that are not finite"
            mend = "export it again with samples from -1 to 1"
            raise AudioError("non_finite", f"holds {kind}", where=where, mend=mend)
        self.peak = max(self.peak, block_peak)
        self.values += block.size
        self._sha256.update(np.ascontiguousarray(block, dtype="<f4").tobytes())
        if block_peak >= self._full_scale or len(self._tail):
            self._count_clipped(block)

    def _count_clipped(self, block: Block) -> None:
        """Mark runs over this block and the last two samples before it; count only new marks."""
        joined = np.concatenate([self._tail, block])
        marks = mark_clipped(joined, full_scale=float(self._full_scale))
        marks[: len(self._tail)] |= self._tail_marks
        self.num_clipped += int(marks.sum()) - int(self._tail_marks.sum())
        self._tail, self._tail_marks = joined[1 - CLIPPED_RUN :], marks[1 - CLIPPED_RUN :]


def mark_clipped(samples: Block, *, full_scale: float) -> npt.NDArray[np.bool_]:
    """A mask [n, channels] of the samples in runs of three equal values at full scale."""
    full = np.abs(samples) >= np.float32(full_scale)
    same = full[1:] & (samples[1:] == samples[:-1])
    triple = same[1:] & same[:-1]
    marks = np.zeros(samples.shape, dtype=bool)
    for shift in range(CLIPPED_RUN):
        marks[shift : shift + len(triple)] |= triple
    return marks
