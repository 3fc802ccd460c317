"""Front ends: waveform [B, S] -> spectrogram [B, F, T], and augmentation of the spectrogram.

B batch, S samples, F frequency bins, T frames. Plain PyTorch, on CPU and GPU, nothing to learn.
"""

from __future__ import annotations

from xmoe.frontend.base import Frontend
from xmoe.frontend.registry import build_frontend

__all__ = ["Frontend", "build_frontend"]
