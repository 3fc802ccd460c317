"""One expert from its own weights file: a packed payload -> logits.

Knows no Ray: the same class answers in a replica, inside the router and in tests.

While one run replaces another, routers and experts of both live side by side for some seconds.
Experts of two runs must never answer one request together, so a call names its router's weights,
and an expert answers with those or not at all.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt
import torch

from xmoe.base.errors import RunFolderError, XmoeError
from xmoe.base.layers import fold_norms
from xmoe.experts.protocol import AnyExpert
from xmoe.experts.registry import build_expert
from xmoe.run.folder import Which, expert_part
from xmoe.run.remote import fetched

UNHEALTHY_AFTER = 3
# An expert looks again for weights that it did not find only after this time.
NOT_FOUND_FOR_S = 5.0

# A payload on the wire: named arrays of b rows each.
Arrays = Mapping[str, npt.NDArray[np.generic]]
Logits = npt.NDArray[np.float32]


class Weights(NamedTuple):
    """A checkpoint of a run, and the SHA-256 sum of its manifest."""

    run: str
    which: Which
    sha256: str


class OtherRun(Exception):
    """The weights that a call asks for are no longer where its router found them."""


class ExpertCore:
    """One expert in eval mode on one device; ``weights_sha256`` names its checkpoint."""

    def __init__(
        self, expert: AnyExpert, *, device: torch.device | None = None, weights_sha256: str = ""
    ) -> None:
        self.weights_sha256 = weights_sha256
        self.device = device or torch.device("cpu")
        self.expert = expert.to(self.device).eval()
        self.nonfinite_in_a_row = 0

    @classmethod
    def load(
        cls, run: str, name: str, *, which: Which = "best", device: torch.device | None = None
    ) -> Self:
        """Load this expert alone; RunFolderError where its files are damaged or missing."""
        with fetched(run, [expert_part(name)], which=which) as folder:
            sha256 = folder.fingerprint(which)
            config = folder.read_config()
            if name not in config.model.expert_names:
                raise RunFolderError(f"has no expert {name!r}", where=run)
            expert = build_expert(config.model, name)
            expert.load_state_dict(folder.load_tensors(expert_part(name), which))
            expert.load()
            check_unchanged(sha256, folder.fingerprint(which), run)
        fold_norms(expert)
        return cls(expert, device=device, weights_sha256=sha256)

    def is_small(self, values: int) -> bool:
        """Whether so many numbers are answered sooner here than by another thread."""
        return values <= self.expert.small_values

    def infer(self, payload: Arrays) -> Logits:
        """Logits [b, C] of what the router packed."""
        with torch.inference_mode():
            tensors = {
                name: torch.from_numpy(np.array(value)).to(self.device)
                for name, value in payload.items()
            }
            logits = self.expert.answer(tensors).cpu().numpy()
        finite = bool(np.isfinite(logits).all())
        self.nonfinite_in_a_row = 0 if finite else self.nonfinite_in_a_row + 1
        return np.ascontiguousarray(logits, dtype=np.float32)

    def check_health(self) -> None:
        """Raise RuntimeError after a series of non-finite answers: time for a new replica."""
        if self.nonfinite_in_a_row >= UNHEALTHY_AFTER:
            raise RuntimeError(f"{self.nonfinite_in_a_row} answers in a row were not finite")


class ExpertVersions:
    """One expert with its own run's weights, and those of one other run that calls ask for."""

    def __init__(
        self, run: str, name: str, *, which: Which = "best", device: torch.device | None = None
    ) -> None:
        self.name, self.device = name, device
        self.own = ExpertCore.load(run, name, which=which, device=device)
        self._other: ExpertCore | None = None
        self._not_found: tuple[Weights, float] | None = None

    def of(self, weights: Weights) -> ExpertCore:
        """The expert with these weights; OtherRun where they cannot be had."""
        for core in (self.own, self._other):
            if core is not None and core.weights_sha256 == weights.sha256:
                return core
        if self._not_found is not None:
            missed, until = self._not_found
            if missed == weights and time.monotonic() < until:
                raise OtherRun
        try:
            core = ExpertCore.load(weights.run, self.name, which=weights.which, device=self.device)
            check_unchanged(weights.sha256, core.weights_sha256, weights.run)
        except XmoeError as error:
            self._not_found = (weights, time.monotonic() + NOT_FOUND_FOR_S)
            raise OtherRun from error
        self._other = core
        return core


def check_unchanged(expected: str, found: str, run: str) -> None:
    """Raise RunFolderError where the weights have changed since."""
    if found != expected:
        raise RunFolderError(
            "the weights changed while they were read",
            where=run,
            mend="give every run a folder of its own that nothing writes to",
        )
