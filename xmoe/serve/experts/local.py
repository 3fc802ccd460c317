"""Experts in the router's own process: on a small machine, as a baseline, in tests."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Self

import torch
from torch import Tensor

from xmoe.base.config import RunConfig
from xmoe.experts.protocol import ExpertRequest
from xmoe.mixture.calls import CallExpert, CallFailed
from xmoe.serve.experts.expert import Arrays, ExpertCore
from xmoe.serve.settings import ServeSettings

MOST_THREADS = 4


class LocalExperts:
    """All experts of a run in this process; large calls run in threads, small ones at once."""

    def __init__(self, cores: Mapping[str, ExpertCore]) -> None:
        self._cores = dict(cores)
        most = min(os.cpu_count() or 1, MOST_THREADS)
        self._threads = ThreadPoolExecutor(most, "experts")

    @classmethod
    def load(
        cls, settings: ServeSettings, config: RunConfig, *, device: torch.device | None = None
    ) -> Self:
        return cls(
            {
                name: ExpertCore.load(settings.run, name, which=settings.which, device=device)
                for name in config.model.callable_experts
            }
        )

    def callers(self) -> dict[str, CallExpert]:
        return dict.fromkeys(self._cores, self.call)

    async def call(self, request: ExpertRequest, budget_s: float) -> Tensor:
        """Logits [b, C]; CallFailed where the expert fails."""
        core = self._cores[request.name]
        payload = to_arrays(request)
        try:
            if core.is_small(request.size):
                return torch.from_numpy(core.infer(payload))
            loop = asyncio.get_running_loop()
            logits = await loop.run_in_executor(self._threads, core.infer, payload)
        except RuntimeError as error:
            raise CallFailed("error") from error
        return torch.from_numpy(logits)


def to_arrays(request: ExpertRequest) -> Arrays:
    """The payload of a request as it travels."""
    return {name: value.numpy() for name, value in request.payload.items()}
