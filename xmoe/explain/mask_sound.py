"""Cells removed from a spectrogram -> the same cells removed from the sound itself.

An expert with a front end of its own reads sound, so a hole in the run's spectrogram means nothing
to it. Here the hole is cut into the samples: short-time Fourier coefficients, times a gain for each
cell of the front end's grid, and back (Griffin and Lim 1984, IEEE TASSP 32(2)). Gains in dB are
interpolated linearly between the centres of cells; frequencies beyond the band have the gain of its
edge, so that no sound is left where all cells are removed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from xmoe.audio.segment import Samples
from xmoe.audio.sound import LEVELS, Sound
from xmoe.frontend.base import Frontend
from xmoe.frontend.measure import measure_power

HOPS_PER_WINDOW = 4  # overlap that a Hann window needs to be inverted
# Largest gain of a cell: more would also raise loud sound next to it.
MOST_GAIN_DB = 20.0
SMALLEST_PEAK = 1e-8
_SILENCE = 1e-20


@dataclass(frozen=True)
class MaskableSound:
    """The sound of segments, and what is needed to mask it on the grid of a front end.

    ``level_db`` [B, F, T] is the power of each cell, not below the front end's floor.
    """

    sound: Sound
    frontend: Frontend
    level_db: Tensor
    parts: tuple[_Part, ...]

    @classmethod
    def of(cls, frontend: Frontend, sound: Sound, num_frames: int) -> MaskableSound:
        """The sound of segments whose spectrograms have ``num_frames``."""
        parts = [_Part(frontend, *sound.read(row), num_frames) for row in range(len(sound))]
        return cls(sound, frontend, torch.stack([part.level_db for part in parts]), tuple(parts))

    def repeat(self, times: int) -> MaskableSound:
        """All segments ``times`` over, one after the other."""
        return replace(
            self,
            sound=self.sound.repeat(times),
            level_db=self.level_db.repeat(times, 1, 1),
            parts=self.parts * times,
        )

    def mask(self, gain_db: Tensor, rows: Tensor) -> Sound:
        """The sound of segments ``rows`` [n], each by its gains [n, F, T]."""
        rows = rows.cpu()
        gains = gain_db.cpu().clamp_max(MOST_GAIN_DB)
        masked = [
            self.parts[row].mask(gain) for row, gain in zip(rows.tolist(), gains, strict=True)
        ]
        samples = torch.nn.utils.rnn.pad_sequence(masked, batch_first=True)
        scale = samples.abs().amax(1).clamp_min(SMALLEST_PEAK) / LEVELS
        levels = (samples / scale[:, None]).round().to(torch.int16)
        return Sound(levels, scale, self.sound.length[rows], self.sound.rate_hz[rows])


class _Part:
    """One segment as short-time Fourier coefficients [bins, frames]."""

    def __init__(self, frontend: Frontend, samples: Samples, rate_hz: int, num_frames: int) -> None:
        config, self.size = frontend.config, len(samples)
        power = measure_power(samples, rate_hz, frontend).cpu()[:, :num_frames]
        floor = power.amax() * 10.0 ** (config.floor_db / 10.0)
        level_db = 10.0 * power.clamp_min(max(float(floor), _SILENCE)).log10()
        missing = (0, num_frames - level_db.shape[1])
        self.level_db = functional.pad(level_db[None], missing, mode="replicate")[0]
        window = config.win_length / config.sample_rate_hz * rate_hz
        self.hop = max(1, round(window / HOPS_PER_WINDOW))
        self.n_fft = HOPS_PER_WINDOW * self.hop
        self.window = torch.hann_window(self.n_fft)
        self.spectrum = torch.stft(
            torch.from_numpy(samples),
            self.n_fft,
            self.hop,
            window=self.window,
            pad_mode="constant",
            return_complex=True,
        )
        bins_hz = torch.arange(self.spectrum.shape[0]) * (rate_hz / self.n_fft)
        times_s = torch.arange(self.spectrum.shape[1]) * (self.hop / rate_hz)
        frames_s = torch.arange(num_frames) / config.frame_rate_hz
        self.rows = interpolation(frontend.bin_centers_hz.cpu(), bins_hz)
        self.columns = interpolation(frames_s, times_s).T

    def mask(self, gain_db: Tensor) -> Tensor:
        """Samples [S] by gains [F, T]."""
        gain = 10.0 ** (self.rows @ gain_db @ self.columns / 20.0)
        return torch.istft(
            self.spectrum * gain, self.n_fft, self.hop, window=self.window, length=self.size
        )


def interpolation(known: Tensor, wanted: Tensor) -> Tensor:
    """The matrix [wanted, known] of linear interpolation between rising places.

    Beyond the ends the nearest counts.
    """
    units = np.eye(len(known))
    columns = [np.interp(wanted.numpy(), known.numpy(), unit) for unit in units]
    return torch.from_numpy(np.stack(columns, 1)).float()
