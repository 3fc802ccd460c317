"""Maps of one clip -> a verdict on each: what is left of the target as cells go and come back.

Every map is compared with the mean of some random ones on the same clip and noise floor: a number
alone says little, since a clip that is mostly event loses its answer to any damage.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from xmoe.explain.faithfulness import STEPS, Watch, measure_faithfulness
from xmoe.explain.mask_sound import MaskableSound

RANDOM = "random"
RANDOM_MAPS = 4
LEAST_GAIN = 0.1  # of the possible gain, over random maps


@dataclass(frozen=True)
class Verdict:
    """What is watched, at equal steps of the cells, as they are removed and restored."""

    removed: tuple[float, ...]
    restored: tuple[float, ...]

    @property
    def deletion(self) -> float:
        """Mean as cells are removed: low is good."""
        return _mean(self.removed)

    @property
    def insertion(self) -> float:
        """Mean as cells are restored: high is good."""
        return _mean(self.restored)

    @property
    def whole(self) -> float:
        """What the whole clip gives."""
        return self.removed[0]

    @property
    def silent(self) -> float:
        """What noise floor alone gives."""
        return self.removed[-1]

    @property
    def first_gone(self) -> float:
        """What is left without the first eighth of the cells."""
        return self.removed[_eighth(self.removed)]

    @property
    def first_shown(self) -> float:
        """What the first eighth of the cells alone gives."""
        return self.restored[_eighth(self.restored)]

    @property
    def reach(self) -> float:
        """How far the number moves at all."""
        values = self.removed + self.restored
        return max(values) - min(values)

    def explains(self, chance: Verdict) -> bool:
        """Whether the map beats random ones by a tenth of what there is to gain.

        Its first eighth, which a sentence names, must be missed, and more than a random one.
        """
        gain = chance.deletion - self.deletion + self.insertion - chance.insertion
        missed = self.first_gone < min(self.whole, chance.first_gone)
        return missed and gain > LEAST_GAIN * max(self.reach, chance.reach)


def judge_maps(
    watch: Watch, spec: Tensor, maps: Mapping[str, Tensor], sound: MaskableSound | None = None
) -> dict[str, Verdict]:
    """The verdict on each map [F, T] of a spectrogram [F, T], and on ``random`` ones.

    ``watch`` turns spectrograms [n, F, T], and their sound where the clip's is given, into the
    number that the maps explain, [n]. Experts on sound cost much more than those on the stem map,
    so for them there are half as many steps and random maps.
    """
    generator = torch.Generator().manual_seed(0)
    fewer = 1 if sound is None else 2
    random = torch.rand(RANDOM_MAPS // fewer, *spec.shape, generator=generator).to(spec.device)
    stacked = torch.cat([torch.stack(list(maps.values())), random])
    found = measure_faithfulness(
        watch,
        spec.expand(len(stacked), -1, -1),
        stacked,
        generator=generator,
        sound=None if sound is None else sound.repeat(len(stacked)),
        steps=STEPS // fewer,
    )
    rows = torch.stack([found.removed, found.restored], 1).double().cpu()
    several = [*rows[: len(maps)], rows[len(maps) :].mean(0)]
    return {
        name: Verdict(tuple(row[0].tolist()), tuple(row[1].tolist()))
        for name, row in zip([*maps, RANDOM], several, strict=True)
    }


def _mean(values: tuple[float, ...]) -> float:
    return (sum(values) - (values[0] + values[-1]) / 2) / (len(values) - 1)


def _eighth(values: tuple[float, ...]) -> int:
    return -(-(len(values) - 1) // 8)
