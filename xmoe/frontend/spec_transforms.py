"""Transforms of linear power spectrograms [B, F, T], each clip with its own parameters [B].

They imitate on power what a change of the waveform would do. Nothing is random here but the texture
of noise; ``xmoe.frontend.spec_augment`` draws the parameters. Departs from the waveform in one way:
powers add without their cross term. B batch, F frequency bins, T frames.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

_FLOOR_BLOCK = 8
_STOP_BAND = 1e-9
_CLIPPED_FLOOR = 0.1
_CLIPPED_SHARE = 0.3


def noise_floor(power: Tensor, valid_frames: Tensor) -> Tensor:
    """A quiet level of each bin, [B, F, 1]: the smallest mean of eight real frames in a row."""
    frames = power.shape[-1]
    block = min(_FLOOR_BLOCK, frames)
    usable: Tensor = power[..., : frames - frames % block].unflatten(-1, (-1, block))
    means = usable.mean(-1)
    blocks = torch.arange(means.shape[-1], device=power.device)
    padding = blocks >= (valid_frames[:, None] // block).clamp_min(1)
    return means.masked_fill(padding[:, None, :], torch.inf).amin(-1, keepdim=True)


def frequency_warp(power: Tensor, factor: Tensor, *, bin_centers_hz: Tensor) -> Tensor:
    """Move f Hz to ``factor`` [B] times f (speed; vocal tract: Jaitly and Hinton 2013).

    Interpolates between bins; beyond the band the outermost bin is repeated.
    """
    return torch.bmm(_warp_weights(factor, bin_centers_hz), power)


def _warp_weights(factor: Tensor, bin_centers_hz: Tensor) -> Tensor:
    """[B, F to, F from]: linear interpolation of the spectrum at f / ``factor``."""
    source_hz = bin_centers_hz / factor[:, None]
    upper = torch.searchsorted(bin_centers_hz, source_hz).clamp(1, len(bin_centers_hz) - 1)
    low_hz, high_hz = bin_centers_hz[upper - 1], bin_centers_hz[upper]
    position = upper - 1 + ((source_hz - low_hz) / (high_hz - low_hz)).clamp(0.0, 1.0)
    bins = torch.arange(len(bin_centers_hz), device=factor.device)
    return (1.0 - (position[:, :, None] - bins).abs()).clamp_min(0.0)


def time_warp(
    power: Tensor, *, stretch: Tensor, shift_share: Tensor, valid_frames: Tensor
) -> Tensor:
    """Stretch each clip by ``stretch`` [B] about its middle, then delay it by a share.

    The share is of the clip's ``valid_frames`` [B]; padding stays where it is. Frames are repeated
    or dropped, never mixed, so that noise keeps its texture. Frames from beyond the clip get its
    noise floor.
    """
    length = valid_frames[:, None].to(power.dtype)
    middle = (length - 1) / 2
    times = torch.arange(power.shape[-1], device=power.device)
    source = (times - shift_share[:, None] * length - middle) / stretch[:, None] + middle
    source = torch.where(times < length, torch.round(source), times)
    inside = (source >= 0) & ((source < length) | (times >= length))
    taken = source.clamp(0, power.shape[-1] - 1).long()[:, None, :].expand_as(power)
    return torch.where(inside[:, None, :], power.gather(2, taken), noise_floor(power, valid_frames))


def add_noise(
    power: Tensor,
    *,
    snr_db: Tensor,
    slope: Tensor,
    bin_centers_hz: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """Add noise with density f to the ``slope`` [B], at ``snr_db`` [B] below the clip.

    Slope 0 is white, -1 pink, -2 brown; an infinite ``snr_db`` adds nothing. The energies compared
    are those of all F bins and T frames. The texture is drawn from gamma distributions (averaged
    exponentials) whose shape follows the bins' spacing: nearly what a front end makes of noise.
    """
    level, texture = _noise_texture(power, bin_centers_hz, generator)
    shape = level * (bin_centers_hz / bin_centers_hz[-1]).clamp_min(1e-4) ** slope[:, None]
    scale = power.mean(dim=(1, 2)) * 10.0 ** (-snr_db / 10.0) / shape.mean(dim=1)
    return torch.addcmul(power, texture, (shape * scale[:, None])[:, :, None])


def _noise_texture(
    power: Tensor, bin_centers_hz: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Mean level of white noise per bin [F], and its fluctuation [B, F, T]."""
    spacing = _bin_spacing(bin_centers_hz)
    shape = (spacing / (2.0 * spacing.amin())).clamp_min(1.0)[:, None]
    normal = torch.randn(power.shape, generator=generator, device=generator.device)
    # Wilson and Hilferty 1931: the cube root of a gamma variable is nearly normal.
    root = 1.0 - 1.0 / (9.0 * shape) + normal.to(power.device) / (3.0 * shape.sqrt())
    return spacing, root.clamp_min(0.0).pow(3)


def _bin_spacing(bin_centers_hz: Tensor) -> Tensor:
    """Distance of each bin from the one below it, [F]."""
    return torch.diff(bin_centers_hz, prepend=2 * bin_centers_hz[:1] - bin_centers_hz[1:2])


def clip_peaks_power(power: Tensor, depth_db: Tensor, *, bin_centers_hz: Tensor) -> Tensor:
    """Imitate hard clipping ``depth_db`` [B] below the power of the loudest frame.

    Frames saturate, and odd harmonics (1/9 at 3 f, 1/25 at 5 f) and a broad floor take up their
    power. -infinity changes nothing. The constants are fitted by eye: over real clips with 2 to 30
    % of samples clipped this closes 10 to 60 % of the gap between the log-mel of the clean and of
    the truly clipped clip.
    """
    envelope = power.sum(dim=1, keepdim=True)
    loudest = envelope.amax(dim=2, keepdim=True).clamp_min(1e-20)
    threshold = loudest * 10.0 ** (-depth_db / 10.0)[:, None, None]
    share = envelope / (envelope + threshold)
    orders = torch.tensor([3.0, 5.0], device=power.device)
    reaches = bin_centers_hz >= orders[:, None] * bin_centers_hz[0]
    harmonics = _warp_weights(orders, bin_centers_hz) * reaches[:, :, None]
    spread = (harmonics / orders[:, None, None].square()).sum(dim=0)
    spacing = _bin_spacing(bin_centers_hz)
    spread = spread + (_CLIPPED_FLOOR * spacing / spacing.sum())[:, None]
    distortion = torch.matmul(spread, power)
    return (power + _CLIPPED_SHARE * share.square() * distortion) * (1.0 - share)


def band_response(
    bin_centers_hz: Tensor, *, low_pass_hz: Tensor, high_pass_hz: Tensor, order: Tensor
) -> Tensor:
    """Power response [B, F] of Butterworth filters with corners [B] and order [B].

    A corner of 0 Hz or infinity leaves its side open. The stop band ends at -90 dB.
    """
    log_hz = bin_centers_hz.clamp_min(1e-3).log()
    steepness = 2.0 * order[:, None]
    low = torch.sigmoid(steepness * (low_pass_hz.log()[:, None] - log_hz))
    high = torch.sigmoid(steepness * (log_hz - high_pass_hz.log()[:, None]))
    return (low * high).clamp_min(_STOP_BAND)


def smooth_response(control_db: Tensor, num_bins: int) -> Tensor:
    """Power response [B, F] that joins ``control_db`` [B, points] by straight lines."""
    curve_db = functional.interpolate(
        control_db[:, None], size=num_bins, mode="linear", align_corners=True
    )
    return 10.0 ** (curve_db[:, 0] / 10.0)


def stripes(start: Tensor, width: Tensor, size: int) -> Tensor:
    """A mask [B, size], true inside any stripe; ``start`` and ``width`` are [B, stripes]."""
    cells = torch.arange(size, device=start.device)
    inside = (cells >= start[..., None]) & (cells < (start + width)[..., None])
    return inside.any(dim=1)


def fill(power: Tensor, *, bins: Tensor, frames: Tensor, valid_frames: Tensor) -> Tensor:
    """Fill masked ``bins`` [B, F] and ``frames`` [B, T] with the noise floor, except in padding."""
    real = torch.arange(power.shape[-1], device=power.device) < valid_frames[:, None]
    hidden = (bins[:, :, None] | frames[:, None, :]) & real[:, None, :]
    return torch.where(hidden, noise_floor(power, valid_frames), power)
