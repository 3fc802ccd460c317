"""Draws the augmentation of a batch of power spectrograms [B, F, T], after power was computed once.

In the order of a recording chain: source (speed, warp, shift), scene (noise), recorder (clipping,
response, band limit), then SpecAugment's masks (Park 2019, arXiv 1904.08779). Every clip draws its
own parameters, vectorised over the batch, from one ``torch.Generator``; a generator on the CPU
gives the same answer for power on a GPU. Masks and shifts are filled with the clip's own noise
floor, because a hole of zeros is a shape no recording has; torchaudio's masks fill with one
constant and use the global random state, so they are not used.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from xmoe.frontend.spec_transforms import (
    add_noise,
    band_response,
    clip_peaks_power,
    fill,
    frequency_warp,
    smooth_response,
    stripes,
    time_warp,
)

Range = tuple[float, float]
_EQUALISER_POINTS = 6
_FILTER_ORDER: Range = (2.0, 16.0)


@dataclass(frozen=True)
class AugmentConfig:
    """How often and how strongly each clip is changed.

    A ``Range`` is (low, high), drawn uniformly; low = high makes a transform exact. A share is a
    fraction of F or of T.
    """

    noise_probability: float = 0.6
    noise_snr_db: Range = (-5.0, 25.0)
    noise_slope: Range = (-2.0, 0.5)
    clipping_probability: float = 0.15
    clipping_depth_db: Range = (-10.0, 20.0)
    equaliser_db: float = 4.0
    low_pass_probability: float = 0.15
    low_pass_share: Range = (0.3, 1.0)
    high_pass_probability: float = 0.15
    high_pass_share: Range = (0.0, 0.5)
    speed: Range = (0.9, 1.1)
    warp: Range = (0.95, 1.05)
    stretch: Range = (0.9, 1.1)
    shift_share: Range = (-0.1, 0.1)
    num_masks: int = 2
    frequency_mask_share: float = 0.12
    time_mask_share: float = 0.12


def augment_batch(
    power: Tensor,
    config: AugmentConfig,
    *,
    bin_centers_hz: Tensor,
    generator: torch.Generator,
    valid_frames: Tensor | None = None,
) -> Tensor:
    """Apply every transform to power [B, F, T], each clip with its own draw.

    ``valid_frames`` [B] counts the frames that are not padding (silence): a clip is moved and
    masked within them, and keeps its length.
    """
    draw = _Draw(power, generator)
    whole = torch.full((len(power),), power.shape[-1], device=power.device)
    valid = whole if valid_frames is None else valid_frames.to(power.device)
    speed = draw.uniform(config.speed)
    power = frequency_warp(power, speed * draw.uniform(config.warp), bin_centers_hz=bin_centers_hz)
    power = time_warp(
        power,
        stretch=draw.uniform(config.stretch) / speed,
        shift_share=draw.uniform(config.shift_share),
        valid_frames=valid,
    )
    snr_db = draw.uniform(config.noise_snr_db)
    power = add_noise(
        power,
        snr_db=snr_db.where(draw.coin(config.noise_probability), torch.inf),
        slope=draw.uniform(config.noise_slope),
        bin_centers_hz=bin_centers_hz,
        generator=generator,
    )
    depth_db = draw.uniform(config.clipping_depth_db)
    power = clip_peaks_power(
        power,
        depth_db.where(draw.coin(config.clipping_probability), -torch.inf),
        bin_centers_hz=bin_centers_hz,
    )
    power = power * _recorder_response(config, draw, bin_centers_hz)[:, :, None]
    bins, frames = power.shape[1:]
    every_bin = torch.full_like(valid, bins)
    return fill(
        power,
        bins=draw.stripes(config.num_masks, config.frequency_mask_share, every_bin, bins),
        frames=draw.stripes(config.num_masks, config.time_mask_share, valid, frames),
        valid_frames=valid,
    )


def add_noise_power(
    power: Tensor,
    *,
    snr_db_range: Range,
    generator: torch.Generator,
    bin_centers_hz: Tensor | None = None,
    slope_range: Range = (0.0, 0.0),
) -> Tensor:
    """Add noise to power [B, F, T], each clip at its own SNR and colour.

    A slope of 0 is white noise, -1 pink, -2 brown. Without ``bin_centers_hz`` [F] all bins count as
    equally wide.
    """
    draw = _Draw(power, generator)
    if bin_centers_hz is None:
        bin_centers_hz = torch.arange(1.0, power.shape[1] + 1.0, device=power.device)
    return add_noise(
        power,
        snr_db=draw.uniform(snr_db_range),
        slope=draw.uniform(slope_range),
        bin_centers_hz=bin_centers_hz,
        generator=generator,
    )


def mixup(
    power: Tensor, targets: Tensor, *, alpha: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Mix each clip with another: power [B, F, T] and one-hot or multi-hot targets [B, C].

    The label's share is drawn from Beta(``alpha``, ``alpha``) and is the share of sound pressure of
    clips of equal mean power, so that a loud clip does not drown the other (Zhang 2018, arXiv
    1710.09412; Tokozume 2018, arXiv 1711.10284). ``alpha`` 0 mixes nothing.
    """
    if alpha <= 0.0:
        return power, targets
    batch = power.shape[0]
    gammas = torch._standard_gamma(
        torch.full((2, batch), alpha, device=generator.device), generator=generator
    ).clamp_min(1e-30)
    share = (gammas[0] / gammas.sum(dim=0)).to(power.device)
    step = torch.randint(1, max(2, batch), (1,), generator=generator, device=generator.device)
    other = (torch.arange(batch, device=power.device) + step.to(power.device)) % batch
    level = power / power.mean(dim=(1, 2), keepdim=True).clamp_min(1e-20)
    first, second = share[:, None, None].square(), (1.0 - share)[:, None, None].square()
    mixed = torch.addcmul(level * first, level[other], second)
    label_share = share[:, None].to(targets.dtype)
    return mixed, label_share * targets + (1.0 - label_share) * targets[other]


class _Draw:
    """Per-clip random numbers [B] on the power's device, from a generator on any device."""

    def __init__(self, power: Tensor, generator: torch.Generator) -> None:
        self.batch = power.shape[0]
        self.device = power.device
        self.generator = generator

    def unit(self, *shape: int) -> Tensor:
        """Uniform numbers in 0..1, [B, *shape]."""
        drawn = torch.rand(
            self.batch, *shape, generator=self.generator, device=self.generator.device
        )
        return drawn.to(self.device)

    def uniform(self, limits: Range) -> Tensor:
        low, high = limits
        return low + (high - low) * self.unit()

    def coin(self, probability: float) -> Tensor:
        return self.unit() < probability

    def stripes(self, count: int, max_share: float, lengths: Tensor, size: int) -> Tensor:
        """A mask [B, size] of ``count`` stripes within ``lengths`` [B] of ``size`` cells.

        A stripe is at most ``max_share`` of the length wide.
        """
        width = torch.round(self.unit(count) * max_share * lengths[:, None])
        start = torch.floor(self.unit(count) * (lengths[:, None] - width + 1))
        return stripes(start, width, size)


def _recorder_response(config: AugmentConfig, draw: _Draw, bin_centers_hz: Tensor) -> Tensor:
    """Power response [B, F] of a recorder: uneven, and perhaps band-limited."""
    control_db = (2.0 * draw.unit(_EQUALISER_POINTS) - 1.0) * config.equaliser_db
    last = len(bin_centers_hz) - 1
    low_pass_hz = bin_centers_hz[(draw.uniform(config.low_pass_share) * last).long()]
    high_pass_hz = bin_centers_hz[(draw.uniform(config.high_pass_share) * last).long()]
    band = band_response(
        bin_centers_hz,
        low_pass_hz=low_pass_hz.where(draw.coin(config.low_pass_probability), torch.inf),
        high_pass_hz=high_pass_hz.where(draw.coin(config.high_pass_probability), 0.0),
        order=draw.uniform(_FILTER_ORDER),
    )
    return band * smooth_response(control_db, len(bin_centers_hz))
