"""Segments of recordings -> sound in 16 bits, a row each, as experts with ears of their own eat it.

Rows of different lengths and rates lie side by side, each followed by zeros to the longest. A row
is scaled by its own peak, so that a quiet recording loses nothing. Experts in this process eat the
same rows as those that are called over a wire, so both answer alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from xmoe.audio.segment import Samples, Segment

LEVELS = 32767


@dataclass(frozen=True)
class Sound:
    """Samples int16 [n, S], ``scale`` [n] the float value of one level, ``length`` [n] in samples
    and ``rate_hz`` [n] of n segments.
    """

    samples: Tensor
    scale: Tensor
    length: Tensor
    rate_hz: Tensor

    def __len__(self) -> int:
        return len(self.samples)

    def rows(self, picked: Tensor | slice) -> Sound:
        """Return some of the rows."""
        return Sound(*(value[picked] for value in vars(self).values()))

    def repeat(self, times: int) -> Sound:
        """Return all rows ``times`` over, one after the other."""
        return self.rows(torch.arange(len(self)).repeat(times))

    def read(self, row: int) -> tuple[Samples, int]:
        """Return the samples [S] of one row as floats, and their rate."""
        samples = self.samples[row, : int(self.length[row])].numpy()
        return samples * np.float32(self.scale[row]), int(self.rate_hz[row])


def hold_sound(segments: Sequence[Segment]) -> Sound:
    """Return the sound of segments."""
    longest = max(len(segment.samples) for segment in segments)
    samples = np.zeros((len(segments), longest), np.int16)
    scale = np.empty(len(segments), np.float32)
    for row, segment in enumerate(segments):
        levels, scale[row] = to_levels(segment.samples)
        samples[row, : len(levels)] = levels
    return Sound(
        torch.from_numpy(samples),
        torch.from_numpy(scale),
        torch.tensor([len(segment.samples) for segment in segments]),
        torch.tensor([segment.sample_rate_hz for segment in segments]),
    )


def to_levels(samples: Samples) -> tuple[npt.NDArray[np.int16], np.float32]:
    """Return samples [S] in levels of 16 bits, and the float value of one."""
    peak = max(float(np.abs(samples).max(initial=0.0)), 1e-8)
    scale = np.float32(peak / LEVELS)
    return np.rint(samples / scale).astype(np.int16), scale


def join_sounds(parts: Sequence[Sound]) -> Sound:
    """Return the rows of all parts as one."""
    longest = max(part.samples.shape[1] for part in parts)
    padded = [
        torch.nn.functional.pad(part.samples, (0, longest - part.samples.shape[1]))
        for part in parts
    ]
    others = (
        torch.cat([getattr(part, name) for part in parts])
        for name in ("scale", "length", "rate_hz")
    )
    return Sound(torch.cat(padded), *others)
