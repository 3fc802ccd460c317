"""What Ray Serve runs as an expert.

Ray pickles a class by the name of its module, so a replica's process imports this module and what
it needs, and nothing of the router: eight experts are eight processes. torch is imported in the
constructor, when it is this replica's turn.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from xmoe.serve.experts.turn import turn
from xmoe.serve.settings import ServeSettings
from xmoe.serve.telemetry import traces

if TYPE_CHECKING:
    from xmoe.serve.experts.expert import Arrays, Logits, Weights

UNTRACED: Mapping[str, str] = MappingProxyType({})
EXPIRED = "the time of this call was up before it started"


class ExpertReplica:
    """One expert in its own process; large calls queue for one thread."""

    def __init__(self, settings: dict[str, Any], name: str) -> None:
        checked = ServeSettings.model_validate(settings)
        traces.send_traces()
        with turn() if checked.gently else nullcontext():
            self._load(checked, name)
        self._thread = ThreadPoolExecutor(1, name)

    def _load(self, settings: ServeSettings, name: str) -> None:
        import torch

        from xmoe.serve.experts.expert import ExpertVersions
        from xmoe.serve.experts.process import pick_device, settle_memory

        deployment = settings.deployment_of(name)
        torch.set_num_threads(deployment.threads)
        device = pick_device(deployment.num_gpus)
        self._versions = ExpertVersions(settings.run, name, which=settings.which, device=device)
        settle_memory()

    async def infer(
        self,
        payload: Arrays,
        budget_s: float,
        weights: Weights,
        trace: Mapping[str, str] = UNTRACED,
    ) -> Logits:
        """Logits [b, C] of a payload, by the weights of the router that asks.

        Work that arrives too late is dropped. A small call to the replica's own weights is answered
        at once: switching threads twice costs as much as the answer. ``trace`` continues the
        router's.
        """
        with traces.span_of_inference(self._versions.name, trace):
            return await self._infer(payload, budget_s, weights)

    async def _infer(self, payload: Arrays, budget_s: float, weights: Weights) -> Logits:
        own = self._versions.own
        size = sum(value.size for value in payload.values())
        if own.is_small(size) and weights.sha256 == own.weights_sha256:
            return own.infer(payload)
        end = time.monotonic() + budget_s

        def work() -> Logits:
            if time.monotonic() > end:
                raise TimeoutError(EXPIRED)
            return self._versions.of(weights).infer(payload)

        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def check_health(self) -> None:
        """Asked by Serve: raise where only a new replica helps."""
        self._versions.own.check_health()
