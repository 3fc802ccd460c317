"""How a file is read: which of its channels, and how much slower than life it is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Block = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Reading:
    """How a file is read: one ``channel`` of it, counted from 1, or the mean of all.

    ``time_expansion`` is how many times slower than life it was written, as bat detectors do: its
    rate is that many times what the header says.
    """

    channel: int | None = None
    time_expansion: float = 1.0


AS_IT_IS = Reading()


def pick_channel(block: Block, channel: int | None) -> Block:
    """Return one channel [n, 1] of a block [n, channels], counted from 1; None keeps all."""
    return block if channel is None else block[:, channel - 1 : channel]


def mix_down(block: Block) -> Block:
    """Return the mean [n] of the channels of a block [n, channels]."""
    mean: Block = block.mean(axis=1) if block.shape[1] > 1 else block[:, 0]
    return mean
