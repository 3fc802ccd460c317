"""Which channel of a file is read, and by how much the file is slowed down."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Block = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Reading:
    """How a file is read: one ``channel`` of it, counted from 1, or the mean of all.

    ``time_expansion`` is the factor by which a bat detector slowed the sound down: the true rate is
    that many times the one in the header.
    """

    channel: int | None = None
    time_expansion: float = 1.0


AS_IT_IS = Reading()


def pick_channel(block: Block, channel: int | None) -> Block:
    """One channel [n, 1] of a block [n, channels], counted from 1; None keeps all."""
    return block if channel is None else block[:, channel - 1 : channel]


def mix_down(block: Block) -> Block:
    """The mean [n] over the channels of a block [n, channels]."""
    mean: Block = block.mean(axis=1) if block.shape[1] > 1 else block[:, 0]
    return mean
