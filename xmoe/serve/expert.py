"""One expert with its own weights file: uint8 windows and scales -> logits.

Nothing here knows of Ray: the same class answers in a replica, inside the router, and in tests.
"""

from __future__ import annotations

from typing import Self

import numpy as np
import numpy.typing as npt
import torch

from xmoe.artifacts import Which
from xmoe.config import RunConfig
from xmoe.errors import RunFolderError
from xmoe.model.experts import Expert
from xmoe.storage.runs import open_run

UNHEALTHY_AFTER = 3

Windows = npt.NDArray[np.uint8]
Logits = npt.NDArray[np.float32]


class ExpertCore:
    """One expert in eval mode on one device."""

    def __init__(self, expert: Expert, *, device: torch.device | None = None) -> None:
        self.device = device or torch.device("cpu")
        self.expert = expert.to(self.device).eval()
        self.nonfinite_in_a_row = 0

    @classmethod
    def load(
        cls, run: str, name: str, *, which: Which = "best", device: torch.device | None = None
    ) -> Self:
        """Load one expert of a run and nothing else; RunFolderError where it is torn or absent."""
        folder = open_run(run, [f"expert-{name}"], which=which)
        config = folder.read_config()
        if name not in config.model.experts:
            raise RunFolderError(f"has no expert {name!r}", where=run)
        expert = build_expert(config, name)
        expert.load_state_dict(folder.load_tensors(f"expert-{name}", which))
        return cls(expert, device=device)

    def infer(self, windows: Windows, scale: npt.NDArray[np.float32]) -> Logits:
        """Return logits [b, C] of uint8 windows [b, D, R', W'] with scales [b]."""
        with torch.inference_mode():
            levels = torch.from_numpy(np.array(windows)).to(self.device)
            factor = torch.from_numpy(np.array(scale)).to(self.device)
            logits = self.expert(levels.float() * factor[:, None, None, None]).cpu().numpy()
        finite = bool(np.isfinite(logits).all())
        self.nonfinite_in_a_row = 0 if finite else self.nonfinite_in_a_row + 1
        return np.ascontiguousarray(logits, dtype=np.float32)

    def check_health(self) -> None:
        """Raise RuntimeError where the last answers were all non-finite: time for a new replica."""
        if self.nonfinite_in_a_row >= UNHEALTHY_AFTER:
            raise RuntimeError(f"{self.nonfinite_in_a_row} answers in a row were not finite")


def build_expert(config: RunConfig, name: str) -> Expert:
    """Return an expert of a run with fresh weights."""
    model = config.model
    return Expert(
        name,
        in_channels=model.stem_channels,
        channels=model.expert_channels,
        num_classes=model.num_classes,
        dropout=model.dropout,
    )
