"""A store -> the segments of its clips, as they are answered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from xmoe.audio.sound import Sound
from xmoe.features.store import SpectrogramStore
from xmoe.frontend.base import Frontend


@dataclass(frozen=True)
class Segments:
    """Fixed segments for evaluation: ``spec`` [n, F, T]; ``clip`` [n] says which clip each is from.

    ``sound`` is theirs if the store has it; noise added to the power is not in it.
    """

    spec: Tensor
    clip: Tensor
    sound: Sound | None = None

    def pool(self, logits: Tensor, num_clips: int) -> Tensor:
        """Logits [clips, C]: the mean over each clip's segments of logits [n, C]."""
        total = torch.zeros(num_clips, logits.shape[1]).index_add_(0, self.clip, logits)
        count = torch.zeros(num_clips).index_add_(0, self.clip, torch.ones(len(self.clip)))
        return total / count.clamp_min(1).unsqueeze(1)


def join_copies(copies: Sequence[Segments], num_clips: int) -> Segments:
    """Number the segments of several copies of the clips so that each copy's clips are distinct.

    The spectrograms are left out.
    """
    owners = [copy.clip + index * num_clips for index, copy in enumerate(copies)]
    return Segments(torch.empty(0), torch.cat(owners))


def eval_segments(
    store: SpectrogramStore,
    frontend: Frontend,
    clips: Sequence[int],
    *,
    change: Callable[[Tensor], Tensor] | None = None,
) -> Segments:
    """Segments of clips of a store built by segment; ``change`` alters their power [n, F, T]."""
    rows = [(row, piece) for row, clip in enumerate(clips) for piece in store.pieces_of(clip)]
    owners, pieces = (list(column) for column in zip(*rows, strict=True))
    frames = frontend.config.num_frames
    assert int(store.frames[pieces].max()) <= frames, "the store holds whole clips"
    power, valid = store.batch(pieces, [0] * len(pieces), frames)
    if change is not None:
        power = change(power)
    sound = None if store.sound is None else store.sound.rows(pieces)
    return Segments(frontend.compress(power, valid), torch.tensor(owners), sound)
