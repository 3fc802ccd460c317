"""The engine of CQT and CWT: band-limited filters applied in the frequency domain.

A filter that passes a narrow band needs few samples per second of output. So each bin takes its own
slice of the clip's one long FFT, weights it, and inverts it at the lowest sufficient rate (a
multiple of the frame rate) instead of the full sample rate: the idea of fCWT (Arts and van den
Broek 2022, Nature Comput Sci 2) and of the non-stationary Gabor CQT (Velasco 2011, DAFx). Moving a
slice to frequency 0 changes its phase but not its power, which is all we keep. Departs from both in
the output: the power of a frame is the mean over one hop around its centre, so that a click between
two centres is not missed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from xmoe.base.config import SpectroConfig
from xmoe.frontend.base import Frontend, fft_macs, log_spaced_hz

_OCTAVES = 8
_MAX_PLANS = 4  # clip lengths whose slices are cached


@dataclass(frozen=True)
class _Slices:
    """Neighbouring bins that share an output rate.

    ``points_per_hop`` is odd, so that a hop has a centre; the complex ``weights`` are [bins, W],
    each row one filter on the slice of the clip's FFT that begins at its number of ``starts``.
    """

    points_per_hop: int
    starts: tuple[int, ...]
    weights: Tensor

    def of(self, spectrum: Tensor) -> Tensor:
        """The weighted slices [B, bins, W] of a padded spectrum [B, .]."""
        width = self.weights.shape[1]
        slices = [spectrum[:, start : start + width] for start in self.starts]
        return torch.stack(slices, 1) * self.weights  # half the time of one gather


class Filterbank(Frontend):
    """Power of F analytic filters at equal ratios up to ``fmax_hz``.

    They start at ``fmin_hz``, or eight octaves below ``fmax_hz`` if that is higher. A subclass
    implements ``response`` and sets ``half_band_hz`` [F], the support of a filter on either side of
    its centre, and ``reach_s``, how long the longest one rings on either side.
    """

    half_band_hz: Tensor
    reach_s: float

    def __init__(self, config: SpectroConfig) -> None:
        lowest_hz = max(config.fmin_hz, config.fmax_hz / 2**_OCTAVES)
        centers_hz = log_spaced_hz(lowest_hz, config.fmax_hz, config.num_bins)
        super().__init__(config, centers_hz)
        self.centers_hz = centers_hz
        self._plans: dict[tuple[int, torch.device], list[_Slices]] = {}

    def response(self, rows: list[int], offset_hz: Tensor) -> Tensor:
        """Amplitudes [n, W] of filters ``rows`` [n] at offsets from their centres."""
        raise NotImplementedError

    def macs(self, num_frames: int) -> float:
        """The clip's FFT, and for every bin its slice, the inverse FFT and the power."""
        period = self._period_frames(num_frames)
        total = fft_macs(period * self.config.hop_length)
        for part in self._cached_plan(period, self.bin_centers_hz.device):
            points = period * part.points_per_hop
            bins, width = part.weights.shape
            total += bins * (4 * width + 2 * fft_macs(points) + 2 * points)
        return total

    def _power(self, x: Tensor) -> Tensor:
        num_frames = self.num_frames(x.shape[-1])
        period = self._period_frames(num_frames)
        spectrum = transform_real(x, period * self.config.hop_length)
        plan, rows = self._cached_plan(period, x.device), []
        reach = max(max(part.starts) + part.weights.shape[1] for part in plan)
        spectrum = functional.pad(spectrum, (0, max(0, reach - spectrum.shape[1])))
        for part in plan:
            points = part.points_per_hop
            filtered = torch.fft.ifft(part.of(spectrum), n=period * points, norm="forward")
            parts = torch.view_as_real(filtered[..., : num_frames * points])
            rows.append(parts.square().unflatten(2, (num_frames, -1)).sum((-1, -2)) / points)
        return torch.cat(rows, dim=1)

    def _period_frames(self, num_frames: int) -> int:
        """Frames of the circular convolution: the clip and the ringing of the filters."""
        ringing = math.ceil(self.reach_s * self.config.frame_rate_hz)
        return next_smooth(num_frames + ringing + 1)

    def _cached_plan(self, period: int, device: torch.device) -> list[_Slices]:
        key = (period, device)
        plan = self._plans.get(key)
        if plan is None:
            plan = self._make_plan(period, device)
            if len(self._plans) >= _MAX_PLANS:
                self._plans.clear()
            self._plans[key] = plan
        return plan

    def _make_plan(self, period: int, device: torch.device) -> list[_Slices]:
        """The slices for clips of at most ``period`` frames, low bins first."""
        num_samples = period * self.config.hop_length
        step_hz = self.config.sample_rate_hz / num_samples
        first = torch.ceil((self.centers_hz - self.half_band_hz) / step_hz).clamp_min(0).long()
        last = torch.floor((self.centers_hz + self.half_band_hz) / step_hz)
        widths = last.clamp_max(num_samples // 2).long() - first + 1
        rates = _rates(widths, period)
        plan = []
        for points in sorted(set(rates)):
            rows = [row for row, rate in enumerate(rates) if rate == points]
            steps = torch.arange(int(widths[rows].max()))
            bins = first[rows, None] + steps
            offset_hz = bins * step_hz - self.centers_hz[rows, None]
            gain = self.response(rows, offset_hz) * (steps < widths[rows, None])
            half_hop = (points - 1) / 2 / (period * points)  # of the circle: frames are centred
            phase = -2 * math.pi * half_hop * steps.double()
            weights = gain * (2.0 / num_samples) * torch.polar(torch.ones_like(phase), phase)
            starts = tuple(first[rows].tolist())
            plan.append(_Slices(points, starts, weights.to(device, torch.complex64)))
        return plan


def transform_real(x: Tensor, points: int) -> Tensor:
    """The spectrum [B, points // 2 + 1] of signals [B, S], padded with zeros to ``points``.

    As a complex transform of half the length: for one long signal a third of the time that a CPU's
    own real transform takes.
    """
    if points % 2 or x.device.type != "cpu":
        whole: Tensor = torch.fft.rfft(x, n=points)
        return whole
    pairs = functional.pad(x, (0, points - x.shape[-1])).unflatten(1, (-1, 2))
    packed = torch.fft.fft(torch.view_as_complex(pairs))
    packed = torch.cat([packed, packed[:, :1]], 1)
    mirrored = packed.flip(1).conj()
    spectrum: Tensor = 0.5 * (packed + mirrored) + (packed - mirrored) * _turns(points)
    return spectrum


@lru_cache(maxsize=16)
def _turns(points: int) -> Tensor:
    """-i / 2 turned back by each frequency of a transform: [points // 2 + 1]."""
    with torch.inference_mode(False):
        angle = -2.0 * math.pi / points * torch.arange(points // 2 + 1, dtype=torch.float64)
        return (-0.5j * torch.polar(torch.ones_like(angle), angle)).to(torch.complex64)


def _rates(widths: Tensor, period: int) -> list[int]:
    """Points per hop that hold each width, rising with the bins."""
    needed = torch.cummax(torch.ceil(widths / period), dim=0).values
    return [next_smooth(int(points), factors=(3, 5)) for points in needed]


def next_smooth(least: int, *, factors: tuple[int, ...] = (2, 3, 5)) -> int:
    """The smallest integer >= ``least`` whose only prime factors are ``factors``."""
    number = max(1, least)
    while True:
        rest = number
        for factor in factors:
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return number
        number += 1
