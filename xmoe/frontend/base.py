"""The interface of every front end: waveform [B, S] -> linear power -> compressed spectrogram.

``power`` and ``compress`` are separate so that training can compute power once per clip, augment it
cheaply (``xmoe.frontend.spec_augment``) and compress afterwards. All front ends share the number of
frames T = S // hop_length + 1 (frame t is centred on sample t * hop_length, with silence beyond the
ends of a clip), the number of bins F, and the scale: a full-scale sine reads 1 within 3 dB.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from xmoe.base.config import SpectroConfig

_SILENCE = 1e-20  # power of a clip that has none, so that its logarithm exists
_VARIANCE_FLOOR = 1e-4  # keeps z-scores from amplifying the noise of a flat clip


class Frontend(nn.Module):
    """A fixed transform; subclasses implement ``_power`` and set ``bin_centers_hz`` [F], rising.

    Gradients flow through to the waveform.
    """

    bin_centers_hz: Tensor

    def __init__(self, config: SpectroConfig, bin_centers_hz: Tensor) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("bin_centers_hz", bin_centers_hz.float(), persistent=False)

    @property
    def num_bins(self) -> int:
        return self.config.num_bins

    def num_frames(self, num_samples: int) -> int:
        return num_samples // self.config.hop_length + 1

    def macs(self, num_frames: int) -> float:
        """Multiply-accumulates of power [F, T] for T frames, counted from the algorithm.

        Unlike milliseconds, counts rank front ends the same on every machine.
        """
        raise NotImplementedError

    def power(self, x: Tensor) -> Tensor:
        """Linear power [B, F, T], never negative, of a waveform [B, S] in -1..1.

        Always float32, also under autocast: dB of half-precision power is noise.
        """
        with torch.autocast(device_type=x.device.type, enabled=False):
            return self._power(x.float())

    def compress(self, power: Tensor, valid_frames: Tensor | None = None) -> Tensor:
        """Power [B, F, T] in dB above the clip's floor, as z-scores of the clip.

        ``valid_frames`` [B] counts the frames that are not padding. Statistics are taken over these
        alone; padding gets the floor's value, so that it looks like silence.
        """
        with torch.autocast(device_type=power.device.type, enabled=False):
            return self._compress(power.float(), frame_mask(power, valid_frames))

    def forward(self, x: Tensor, valid_frames: Tensor | None = None) -> Tensor:
        """The compressed spectrogram [B, F, T] of a waveform [B, S]."""
        return self.compress(self.power(x), valid_frames)

    def _power(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def _compress(self, power: Tensor, mask: Tensor | None) -> Tensor:
        floor = clip_peak(power, mask) * 10.0 ** (self.config.floor_db / 10.0)
        if mask is not None:
            power = power * mask
        level_db = torch.maximum(power, floor).log10() * 10.0
        return standardise(level_db, mask)


def frame_mask(power: Tensor, valid_frames: Tensor | None) -> Tensor | None:
    """1.0 for real frames and 0.0 for padding, [B, 1, T]; None if all are real."""
    if valid_frames is None or _whole(power, valid_frames):
        return None
    frames = torch.arange(power.shape[-1], device=power.device)
    valid = valid_frames.to(power.device).clamp(1, power.shape[-1])
    return (frames < valid[:, None]).to(torch.float32)[:, None, :]


def _whole(power: Tensor, valid_frames: Tensor) -> bool:
    """Whether no frame is padding, where it costs nothing to know: a GPU would be waited for."""
    if torch.onnx.is_in_onnx_export() or valid_frames.device.type != "cpu":
        return False
    return int(valid_frames.min()) >= power.shape[-1]


def clip_peak(power: Tensor, mask: Tensor | None) -> Tensor:
    """The largest power of each clip, [B, 1, 1], never zero."""
    peak = (power if mask is None else power * mask).amax(dim=(1, 2), keepdim=True)
    return peak.clamp_min(_SILENCE)


def standardise(values: Tensor, mask: Tensor | None) -> Tensor:
    """Z-scores [B, F, T] by the mean and deviation of each clip's real frames."""
    if mask is None:
        centred = values - values.mean(dim=(1, 2), keepdim=True)
        variance = centred.square().mean(dim=(1, 2), keepdim=True)
        return centred * torch.rsqrt(variance + _VARIANCE_FLOOR)
    count = mask.sum(dim=(1, 2), keepdim=True) * values.shape[1]
    centred = values - (values * mask).sum(dim=(1, 2), keepdim=True) / count
    variance = (centred.square() * mask).sum(dim=(1, 2), keepdim=True) / count
    return centred * torch.rsqrt(variance + _VARIANCE_FLOOR)


def full_scale_window(win_length: int, n_fft: int) -> Tensor:
    """A centred periodic Hann window [n_fft] for which a full-scale sine has power 1."""
    window = torch.hann_window(win_length, periodic=True)
    before = (n_fft - win_length) // 2
    padded = nn.functional.pad(window, (before, n_fft - win_length - before))
    return padded * (2.0 / float(window.sum()))


def fft_macs(points: int) -> float:
    """Multiply-accumulates of a real FFT, 1.25 N log2 N; a complex one costs twice that."""
    return 1.25 * points * math.log2(max(points, 2))


def log_spaced_hz(low_hz: float, high_hz: float, count: int) -> Tensor:
    """``count`` frequencies from ``low_hz`` to ``high_hz`` at equal ratios, float64."""
    return torch.logspace(math.log10(low_hz), math.log10(high_hz), count, dtype=torch.float64)
