"""The device that a run computes on."""

from __future__ import annotations

import torch


def choose_device(name: str) -> torch.device:
    """Return the device asked for; ``auto`` takes a GPU where there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)
