"""The device that a run computes on."""

from __future__ import annotations

import torch

from xmoe.base.errors import ConfigError


def choose_device(name: str) -> torch.device:
    """The requested device; ``auto`` takes a GPU if there is one.

    Raises ConfigError for a device that this machine lacks.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    mend = "use --device cpu or auto"
    try:
        device = torch.device(name)
    except RuntimeError:
        what = f"there is no device {name!r}"
        raise ConfigError(what, where="--device", mend=mend) from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        what = f"{name}: torch {torch.__version__} sees {torch.cuda.device_count()} GPUs here"
        raise ConfigError(what, where="--device", mend=mend)
    return device
