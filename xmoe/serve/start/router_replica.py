"""What Ray Serve runs as the router.

A thin shell. Ray pickles a class by the name of its module, so whoever deploys imports this one as
well as the replica; what takes seconds to import is imported in the constructor.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import ray.exceptions
from ray import serve
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from xmoe.base.errors import XmoeError
from xmoe.serve.deploy.registry import TrialPlan, find_trial
from xmoe.serve.experts.turn import turn
from xmoe.serve.settings import ServeSettings
from xmoe.serve.telemetry import traces
from xmoe.serve.telemetry.logs import log_through_serve
from xmoe.serve.watch.status import experts_settle, find_here

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from xmoe.serve.deploy.trial import Ask

LOG = logging.getLogger("xmoe.serve")
ROUTER = "router"
LOOK_S = 0.5
# A router that waits longer for an expert answers without it.
EXPERTS_WITHIN_S = 120.0


class RouterReplica:
    """The ingress: HTTP in, one stacked call per expert out."""

    def __init__(
        self, settings: dict[str, Any], handles: dict[str, DeploymentHandle[Any]] | None = None
    ) -> None:
        checked = ServeSettings.model_validate(settings)
        if checked.logs == "json" and (here := find_here()) is not None:
            app, deployment, replica = here.app_name, here.deployment, here.replica_id.unique_id
            log_through_serve(application=app, deployment=deployment, replica=replica)
        traces.send_traces()
        with turn() if checked.gently else nullcontext():
            self._load(checked, handles)
        self._waits = checked.gently and handles is not None

    def _load(
        self, checked: ServeSettings, handles: dict[str, DeploymentHandle[Any]] | None
    ) -> None:
        from xmoe.serve.experts.process import settle_memory
        from xmoe.serve.start.assemble import assemble, open_gate

        self.service = assemble(checked, handles)
        self._gate = open_gate(self.service)
        self._take_up_trial()
        settle_memory()

    def __serve_build_asgi_app__(self) -> ASGIApp:
        """The application; Serve asks for it after the constructor."""
        return self._gate

    async def check_health(self) -> None:
        """Wait for the experts of an upgrade; Serve asks before it sends the first request."""
        end = time.monotonic() + EXPERTS_WITHIN_S
        while self._waits and time.monotonic() < end:
            app = serve.get_replica_context().app_name
            self._waits = not await asyncio.to_thread(experts_settle, app)
            if self._waits:
                await asyncio.sleep(LOOK_S)
        self._waits = False

    async def drain(self, timeout_s: float) -> int:
        """Finish what is here and take nothing more; how many are left after the timeout."""
        return await self._gate.drain(timeout_s)

    async def classify(self, data: bytes, options: dict[str, Any] | None = None) -> dict[str, Any]:
        """Answer one recording without HTTP, for callers that hold a handle."""
        from xmoe.serve.schemas import Options

        checked = Options.model_validate(options or {})
        return (await self.service.answer_bytes(data, checked)).model_dump(mode="json")

    async def report(self) -> dict[str, Any]:
        return self.service.operations.report().model_dump(mode="json")

    async def try_out(self, plan: dict[str, Any] | None) -> None:
        """Begin a trial or end it; earlier counts are dropped."""
        checked = None if plan is None else TrialPlan.model_validate(plan)
        await asyncio.to_thread(self._set_trial, checked)

    async def count_trial(self) -> dict[str, Any] | None:
        """The trial's result here, None where there is none."""
        trial = self.service.trial
        return None if trial is None else trial.count.model_dump()

    def _take_up_trial(self) -> None:
        """Join the current trial; if that fails the router still answers."""
        try:
            self._set_trial(find_trial(self.service.settings.registry))
        except (XmoeError, RayServeException, ray.exceptions.RayError) as error:
            LOG.warning("no trial: %s", error)

    def _set_trial(self, plan: TrialPlan | None) -> None:
        if plan is None:
            self.service.trial = None
            return
        from xmoe.serve.deploy.trial import Trial

        faults, meter = self.service.settings.faults, self.service.meter
        app = candidate_of(serve.get_replica_context().app_name)
        ask = ask_candidate(serve.get_deployment_handle(ROUTER, app))
        timeout_s = faults.deadline_ms / 1000.0
        self.service.trial = Trial(plan, ask, timeout_s=timeout_s, meter=meter)


def candidate_of(app: str) -> str:
    """The name of the application in which a candidate for ``app`` runs."""
    return f"{app}-candidate"


def ask_candidate(handle: DeploymentHandle[Any]) -> Ask:
    async def ask(data: bytes, options: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = await handle.classify.remote(data, options)
        return answer

    return ask
