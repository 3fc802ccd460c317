"""How the process of any replica is set up."""

from __future__ import annotations

import gc

import torch


def pick_device(num_gpus: float) -> torch.device:
    return torch.device("cuda" if num_gpus > 0 and torch.cuda.is_available() else "cpu")


def settle_memory() -> None:
    """Exclude what a replica holds for life from garbage collection.

    Otherwise some hundred thousand objects of libraries are traversed again and again while
    requests wait.
    """
    gc.collect()
    gc.freeze()
