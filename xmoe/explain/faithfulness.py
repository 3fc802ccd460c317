"""Is a map true? *Deletion* and *insertion* ask the model itself.

When the cells that a true map ranks first are removed the answer should go; when they alone are
restored it should return. Removed cells are filled with a sample of the recording's own noise
floor, not with zeros, which no recording contains; for experts on sound they are removed from the
sound too.

Source: Petsiuk et al. 2018, arXiv:1806.07421.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from xmoe.audio.sound import Sound
from xmoe.explain.mask_sound import MaskableSound

# Takes spectrograms [n, F, T], then their sound if experts need it.
Watch = Callable[..., Tensor]
STEPS = 16
QUIET = 0.25  # quantile over time that is taken for noise


@dataclass(frozen=True)
class Faithfulness:
    """What is watched as cells are removed and restored, in the order of a map, [B, steps + 1].

    ``removed`` begins with the whole spectrogram and ends with noise floor, ``restored`` the other
    way round. A small ``deletion`` and a large ``insertion`` are good.
    """

    removed: Tensor
    restored: Tensor

    @property
    def deletion(self) -> Tensor:
        """Mean of what is watched as cells are removed, [B]."""
        return torch.trapezoid(self.removed, dim=1) / (self.removed.shape[1] - 1)

    @property
    def insertion(self) -> Tensor:
        """Mean of what is watched as cells are restored, [B]."""
        return torch.trapezoid(self.restored, dim=1) / (self.restored.shape[1] - 1)


class Filling:
    """Spectrograms [B, F, T], their sound if experts need it, and noise floor to fill them with.

    The floor of the sound is drawn like that of the spectrogram, from the same random numbers.
    """

    def __init__(
        self, spec: Tensor, draw: Callable[[Tensor], Tensor], sound: MaskableSound | None = None
    ) -> None:
        self.spec, self.floor, self.sound = spec, draw(spec), sound
        if sound is not None:
            self.gain_db = draw(sound.level_db) - sound.level_db

    def fill(self, gone: Tensor, rows: Tensor) -> tuple[Tensor] | tuple[Tensor, Sound]:
        """Clips ``rows`` [n] with noise floor where ``gone`` [n, F, T] is true."""
        spec = torch.where(gone, self.floor[rows], self.spec[rows])
        if self.sound is None:
            return (spec,)
        gain_db = torch.where(gone.cpu(), self.gain_db[rows.cpu()], torch.zeros(()))
        return spec, self.sound.mask(gain_db, rows)


def measure_faithfulness(
    watch: Watch,
    spec: Tensor,
    maps: Tensor,
    *,
    generator: torch.Generator,
    sound: MaskableSound | None = None,
    steps: int = STEPS,
) -> Faithfulness:
    """What happens to a number as cells of spectrograms [B, F, T] are removed and restored.

    ``watch`` turns spectrograms [B, F, T], and the sound of the same clips where it is given, into
    the number that maps [B, F, T] explain, [B]. Cells of equal rank go in random order.
    """
    rank = rank_cells(maps, generator=generator)
    state = generator.get_state()

    def draw(values: Tensor) -> Tensor:
        generator.set_state(state)
        return sample_noise_floor(values, generator=generator)

    filling, rows = Filling(spec, draw, sound), torch.arange(len(spec), device=spec.device)
    shares = [step / steps for step in range(steps + 1)]
    removed = [watch(*filling.fill(rank < share, rows)) for share in shares]
    between = [watch(*filling.fill(rank >= share, rows)) for share in shares[1:-1]]
    restored = [removed[-1], *between, removed[0]]
    return Faithfulness(torch.stack(removed, 1), torch.stack(restored, 1))


def rank_cells(maps: Tensor, *, generator: torch.Generator) -> Tensor:
    """Ranks [B, F, T] in 0..1, 0 for the highest cell; ties are broken at random."""
    flat = maps.flatten(1)
    shuffle = torch.rand(flat.shape, generator=generator).to(flat.device).argsort(1)
    falling = flat.gather(1, shuffle).argsort(dim=1, descending=True, stable=True)
    order = shuffle.gather(1, falling)
    steps = torch.arange(flat.shape[1], device=flat.device, dtype=torch.float32) / flat.shape[1]
    rank = torch.empty_like(flat, dtype=torch.float32)
    return rank.scatter_(1, order, steps.expand_as(order)).view_as(maps)


def sample_noise_floor(spec: Tensor, *, generator: torch.Generator) -> Tensor:
    """A noise floor [B, F, T] like that of spectrograms [B, F, T].

    Its level is the lower quartile over time of each frequency, smoothed by a running median over a
    quarter of the band so that a steady line is no floor; its texture is drawn from the scatter of
    the quieter half of all cells about that level.
    """
    bins = spec.shape[1]
    quartile = spec.quantile(QUIET, dim=2)
    reach = max(1, bins // 8)
    padded = F.pad(quartile.unsqueeze(1), (reach, reach), mode="reflect").squeeze(1)
    level = padded.unfold(1, 2 * reach + 1, 1).median(2).values.unsqueeze(2)
    scatter = (spec - level).flatten(1).sort(1).values
    scatter = scatter[:, : scatter.shape[1] // 2]
    draws = torch.randint(scatter.shape[1], (len(spec), spec[0].numel()), generator=generator)
    return level + scatter.gather(1, draws.to(spec.device)).view_as(spec)
