"""Samples at any rate -> the power spectrogram of a front end."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from xmoe.audio.resample import resample
from xmoe.frontend.base import Frontend


def measure_power(
    samples: npt.NDArray[np.float32], sample_rate_hz: int, frontend: Frontend
) -> Tensor:
    """Return the power spectrogram [F, frames] of a whole clip [S]."""
    samples = resample(samples, from_hz=sample_rate_hz, to_hz=frontend.config.sample_rate_hz)
    with torch.no_grad():
        return frontend.power(torch.from_numpy(np.ascontiguousarray(samples)).unsqueeze(0))[0]
