"""Continuous wavelet power (scalogram), [B, S] -> [B, F, T], with the analytic Morlet wavelet.

Sharper in time than the CQT: every wavelet spans about two cycles (omega0 = 6; Torrence and Compo
1998, BAMS 79(1)), however many bins there are. Computed as in fCWT, in the frequency domain, and
inverted at the rate each wavelet's band needs. Departs from the definition in the tails: a
wavelet's spectrum ends where it falls to -60 dB and at 0 Hz.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from xmoe.base.config import SpectroConfig
from xmoe.frontend.filterbank import Filterbank

OMEGA0 = 6.0
_SUPPORT = math.sqrt(2.0 * math.log(1000.0))


class Cwt(Filterbank):
    """Morlet filters; ``deviations_hz`` [F] are the standard deviations of their spectra."""

    def __init__(self, config: SpectroConfig) -> None:
        super().__init__(config)
        self.deviations_hz = self.centers_hz / OMEGA0
        self.half_band_hz = _SUPPORT * self.deviations_hz
        self.reach_s = 4.0 / (2.0 * math.pi * float(self.deviations_hz.min()))

    def response(self, rows: list[int], offset_hz: Tensor) -> Tensor:
        """Gaussian spectra, 1 at the centre."""
        return torch.exp(-0.5 * (offset_hz / self.deviations_hz[rows, None]).square())
