"""What the process of a replica is set up with, whatever it serves."""

from __future__ import annotations

import gc

import torch


def pick_device(num_gpus: float) -> torch.device:
    """Return the GPU of a replica that was given one, else the processor."""
    return torch.device("cuda" if num_gpus > 0 and torch.cuda.is_available() else "cpu")


def settle_memory() -> None:
    """Take what a replica holds for life out of the garbage collector's rounds.

    Some hundred thousand objects of libraries would be looked through again and again while
    requests wait.
    """
    gc.collect()
    gc.freeze()
