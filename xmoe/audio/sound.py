"""Segments -> 16-bit sound, one row each, for experts with a front end of their own.

Rows of different lengths and rates lie side by side, each padded with zeros to the longest. A row
is scaled by its own peak, so that a quiet recording loses nothing. Experts in this process get the
same rows as those called over a wire, so both give the same answers.
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
    """n segments: ``samples`` int16 [n, S], the float value ``scale`` [n] of one level, ``length``
    [n] in samples and ``rate_hz`` [n].
    """

    samples: Tensor
    scale: Tensor
    length: Tensor
    rate_hz: Tensor

    def __len__(self) -> int:
        return len(self.samples)

    def rows(self, picked: Tensor | slice) -> Sound:
        return Sound(*(value[picked] for value in vars(self).values()))

    def repeat(self, times: int) -> Sound:
        """All rows ``times`` over, one block after the other."""
        return self.rows(torch.arange(len(self)).repeat(times))

    def read(self, row: int) -> tuple[Samples, int]:
        """The samples [S] of one row as floats, and their rate."""
        samples = self.samples[row, : int(self.length[row])].numpy()
        return samples * np.float32(self.scale[row]), int(self.rate_hz[row])


def hold_sound(segments: Sequence[Segment]) -> Sound:
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
    """Samples [S] as 16-bit levels, and the float value of one level."""
    peak = max(float(np.abs(samples).max(initial=0.0)), 1e-8)
    scale = np.float32(peak / LEVELS)
    return np.rint(samples / scale).astype(np.int16), scale


def join_sounds(parts: Sequence[Sound]) -> Sound:
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
