"""Constant-Q power, [B, S] -> [B, F, T]: bins at equal ratios, each with a window of its own
length.

Hann windows of Q cycles (Brown 1991, JASA 89(1)), Q set by the ratio between neighbours. Departs
from the textbook in two ways: a window is at most half a segment long, so the lowest bins have a
lower Q instead of smearing over the clip (the variable-Q of Schoerkhuber 2014, AES); and a window's
spectrum ends at its third zero, which cuts off Hann leakage below -41 dB.
"""

from __future__ import annotations

import torch
from torch import Tensor

from xmoe.base.config import SpectroConfig
from xmoe.frontend.filterbank import Filterbank

_SUPPORT = 3.0


class Cqt(Filterbank):
    """Hann-windowed filters; ``lengths_s`` [F] are the window lengths."""

    def __init__(self, config: SpectroConfig) -> None:
        super().__init__(config)
        ratio = float(self.centers_hz[1] / self.centers_hz[0])
        quality = (ratio**2 + 1) / (ratio**2 - 1)
        self.lengths_s = (quality / self.centers_hz).clamp_max(config.segment_s / 2)
        self.half_band_hz = _SUPPORT / self.lengths_s
        self.reach_s = float(self.lengths_s.max())

    def response(self, rows: list[int], offset_hz: Tensor) -> Tensor:
        """Fourier transform of the Hann windows, 1 at the centre."""
        offset = offset_hz * self.lengths_s[rows, None]
        # sinc(u) / (1 - u^2) without its removable pole at u = 1
        neighbours = torch.sinc(offset - 1) + torch.sinc(offset + 1)
        return torch.sinc(offset) + 0.5 * neighbours
