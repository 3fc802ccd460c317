"""Short-time Fourier power, [B, S] -> [B, F, T], with the band's bins gathered into F linear rows.

``FilteredStft`` is the engine shared with the mel front end: one real FFT per frame, then a matrix
product with a filter bank [bins, F] that is cropped to the bins it uses, in blocks if it is large.
Departs from the textbook in the rows: if F does not divide the bins of the band, each row
integrates its own stretch of the spectrum, taken as linear between bins; rows narrower than a bin
are interpolated. No row is ever empty.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from xmoe.base.config import SpectroConfig
from xmoe.frontend.base import Frontend, fft_macs, full_scale_window

# Samples of frames that stay in a CPU's cache; blocks of fewer frames cost more than they save.
_CACHED, _LEAST_FRAMES = 1 << 18, 32
# A filter reads few bins: of a large bank, blocks of filters leave most zeros out.
_LARGE_BANK, _BLOCKS = 256, 4


class FilteredStft(Frontend):
    """STFT power times a filter bank ``filters`` [n_fft // 2 + 1, F]."""

    window: Tensor
    filters: Tensor

    def __init__(self, config: SpectroConfig, bin_centers_hz: Tensor, filters: Tensor) -> None:
        super().__init__(config, bin_centers_hz)
        used = filters.sum(dim=1).nonzero().flatten()
        self.first_bin, self.last_bin = int(used[0]), int(used[-1]) + 1
        cropped = filters[self.first_bin : self.last_bin].float().contiguous()
        self.register_buffer("filters", cropped, persistent=False)
        self._blocks = split_bank(cropped, _BLOCKS if len(cropped) >= _LARGE_BANK else 1)
        window = full_scale_window(config.win_length, config.n_fft)
        self.register_buffer("window", window, persistent=False)

    def macs(self, num_frames: int) -> float:
        """One windowed FFT a frame, and the filters on the bins they use."""
        used, points = self.last_bin - self.first_bin, self.config.n_fft
        return num_frames * (fft_macs(points) + points + used * (2 + self.num_bins))

    def _power(self, x: Tensor) -> Tensor:
        n_fft, hop_length = self.config.n_fft, self.config.hop_length
        padded = nn.functional.pad(x, (n_fft // 2, n_fft - n_fft // 2))
        frames = padded.unfold(-1, n_fft, hop_length)[:, : self.num_frames(x.shape[-1])]
        on_cpu = x.device.type == "cpu"
        size = max(_CACHED // (len(x) * n_fft), _LEAST_FRAMES) if on_cpu else frames.shape[1]
        parts = [self._filter(part) for part in frames.split(size, 1)]
        return torch.cat(parts, 1).transpose(1, 2).contiguous()

    def _filter(self, frames: Tensor) -> Tensor:
        """Power [B, t, F] of frames [B, t, n_fft]."""
        spectrum = torch.fft.rfft(frames * self.window)[..., self.first_bin : self.last_bin]
        squares = torch.view_as_real(spectrum).square()
        density = squares[..., 0] + squares[..., 1]
        if len(self._blocks) == 1 or density.device.type != "cpu":  # one kernel, no launches
            return torch.matmul(density, self.filters)
        flat = density.flatten(0, 1)
        parts = [flat[:, bins] @ self.filters[bins, rows] for bins, rows in self._blocks]
        joined: Tensor = torch.cat(parts, 1).unflatten(0, density.shape[:2])
        return joined


class Stft(FilteredStft):
    """Linear frequency axis: F equal rows from ``fmin_hz`` to ``fmax_hz``."""

    def __init__(self, config: SpectroConfig) -> None:
        edges_hz = torch.linspace(
            config.fmin_hz, config.fmax_hz, config.num_bins + 1, dtype=torch.float64
        )
        centers_hz = (edges_hz[1:] + edges_hz[:-1]) / 2
        super().__init__(config, centers_hz, row_weights(edges_hz, fft_bins_hz(config)))


def split_bank(filters: Tensor, count: int) -> list[tuple[slice, slice]]:
    """The bins and the rows of ``count`` blocks of a filter bank [bins, F] that hold all of it."""
    blocks = []
    for columns in torch.arange(filters.shape[1]).chunk(count):
        rows = slice(int(columns[0]), int(columns[-1]) + 1)
        used = filters[:, rows].sum(1).nonzero().flatten()
        blocks.append((slice(int(used[0]), int(used[-1]) + 1), rows))
    return blocks


def fft_bins_hz(config: SpectroConfig) -> Tensor:
    """Frequency of each FFT bin, [n_fft // 2 + 1], float64."""
    return torch.arange(config.n_fft // 2 + 1, dtype=torch.float64) * (
        config.sample_rate_hz / config.n_fft
    )


def row_weights(edges_hz: Tensor, bins_hz: Tensor) -> Tensor:
    """[bins, F]: the integral of the piecewise linear spectrum between adjacent edges.

    In units of bins if a row is wider than one bin (a sum), an average if it is narrower.
    """
    step_hz = bins_hz[1] - bins_hz[0]
    position = (edges_hz[None, :] - bins_hz[:, None]) / step_hz
    integral = torch.diff(_hat_integral(position), dim=1)
    width = torch.diff(edges_hz) / step_hz
    return integral / width.clamp_max(1.0)


def _hat_integral(position: Tensor) -> Tensor:
    """Integral from minus infinity of the unit triangle on -1..1."""
    p = position.clamp(-1.0, 1.0)
    return torch.where(p < 0, 0.5 * (1 + p).square(), 1 - 0.5 * (1 - p).square())
