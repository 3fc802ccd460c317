"""Constant-Q power, [B, S] -> [B, F, T]: bins at equal ratios, each seen through its own window.

Hann windows of Q cycles (Brown 1991, JASA 89(1)), Q set by the ratio between neighbours. Departs
from the textbook at the two ends of time and frequency: a window is never longer than half a
segment, so that the lowest bins have a lower Q instead of smearing over the clip (the variable-Q of
Schoerkhuber 2014, AES), and the spectrum of a window ends at its third zero (-41 dB, the rest of a
Hann window's leakage is cut off).
"""

from __future__ import annotations

import torch
from torch import Tensor

from xmoe.base.config import SpectroConfig
from xmoe.frontend.filterbank import Filterbank

_SUPPORT = 3.0


class Cqt(Filterbank):
    """Hann-windowed filters; ``lengths_s`` [F] are the lengths of the windows."""

    def __init__(self, config: SpectroConfig) -> None:
        super().__init__(config)
        ratio = float(self.centers_hz[1] / self.centers_hz[0])
        quality = (ratio**2 + 1) / (ratio**2 - 1)
        self.lengths_s = (quality / self.centers_hz).clamp_max(config.segment_s / 2)
        self.half_band_hz = _SUPPORT / self.lengths_s
        self.reach_s = float(self.lengths_s.max())

    def response(self, rows: list[int], offset_hz: Tensor) -> Tensor:
        """Return the Fourier transform of the Hann windows, 1 at the centre."""
        offset = offset_hz * self.lengths_s[rows, None]
        # sinc(u) / (1 - u^2) without its removable pole at u = 1
        neighbours = torch.sinc(offset - 1) + torch.sinc(offset + 1)
        return torch.sinc(offset) + 0.5 * neighbours
