"""Samples at any rate -> the power spectrogram of a front end, of a whole clip or by segment."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from xmoe.audio.resample import resample
from xmoe.audio.segment import Segment
from xmoe.frontend.base import Frontend

# Bounds the memory beside the result, whatever the number of segments.
SAMPLES_AT_ONCE = 1 << 20


def measure_power(
    samples: npt.NDArray[np.float32], sample_rate_hz: int, frontend: Frontend
) -> Tensor:
    """The power spectrogram [F, frames] of a whole clip [S]."""
    samples = resample(samples, from_hz=sample_rate_hz, to_hz=frontend.config.sample_rate_hz)
    with torch.no_grad():
        return frontend.power(torch.from_numpy(np.ascontiguousarray(samples)).unsqueeze(0))[0]


@torch.no_grad()
def measure_segments(segments: Sequence[Segment], frontend: Frontend) -> tuple[Tensor, Tensor]:
    """Power [n, F, T] of segments and how many of its frames [n] are not padding.

    The segments are of one recording, so of one length. Each is resampled and measured on its own:
    nothing around it enters its spectrogram.
    """
    config, length = frontend.config, len(segments[0].samples)
    size = max(1, SAMPLES_AT_ONCE // max(1, length))
    parts = []
    for first in range(0, len(segments), size):
        samples = np.stack([segment.samples for segment in segments[first : first + size]])
        block = resample(
            torch.from_numpy(samples),
            from_hz=segments[0].sample_rate_hz,
            to_hz=config.sample_rate_hz,
        )
        parts.append(frontend.power(block)[:, :, : config.num_frames])
    power = parts[0] if len(parts) == 1 else torch.cat(parts)
    return pad_frames(power, config.num_frames)


def pad_frames(power: Tensor, num_frames: int) -> tuple[Tensor, Tensor]:
    """Pad power [n, F, at most T] with silence; also the number of frames [n] before that."""
    valid = power.shape[2]
    if valid < num_frames:
        power = torch.nn.functional.pad(power, (0, num_frames - valid))
    return power, torch.full((len(power),), valid)
