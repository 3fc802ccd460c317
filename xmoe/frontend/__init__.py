"""Front ends: waveform [B, S] -> spectrogram [B, F, T], and augmentation of the spectrogram.

Plain PyTorch on CPU and GPU, without learnable parameters. B batch, S samples, F bins, T frames.
"""

from __future__ import annotations

from xmoe.frontend.base import Frontend
from xmoe.frontend.registry import build_frontend

__all__ = ["Frontend", "build_frontend"]
