"""What Ray Serve runs as the router, and how it calls the experts' deployments.

A thin shell around plain classes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import cache, partial
from typing import Any

import numpy as np
import ray.exceptions
import torch
from ray import serve
from ray.serve.context import ReplicaContext
from ray.serve.exceptions import BackPressureError, RayServeException
from ray.serve.handle import DeploymentHandle
from starlette.types import ASGIApp
from torch import Tensor

from xmoe.base.errors import XmoeError
from xmoe.experts.protocol import ExpertRequest
from xmoe.mixture.calls import CallExpert, CallFailed, FailureKind
from xmoe.run.remote import fetched, hash_weights
from xmoe.serve.deploy.registry import TrialPlan, find_trial
from xmoe.serve.deploy.trial import Ask, Trial
from xmoe.serve.experts.expert import OtherRun, Weights, check_unchanged
from xmoe.serve.experts.local import LocalExperts, to_arrays
from xmoe.serve.experts.process import pick_device, settle_memory
from xmoe.serve.experts.turn import turn
from xmoe.serve.guard.drain import Gate
from xmoe.serve.guard.tokens import read_tokens
from xmoe.serve.http.api import build_app
from xmoe.serve.http.explainer import Explainer
from xmoe.serve.http.service import Service
from xmoe.serve.router.router import RouterCore, load_router
from xmoe.serve.schemas import Options
from xmoe.serve.settings import ServeSettings
from xmoe.serve.telemetry import traces
from xmoe.serve.telemetry.logs import log_through_serve
from xmoe.serve.telemetry.metrics import RayMeter
from xmoe.serve.watch.about import read_about
from xmoe.serve.watch.fleet import RouterReport, Siblings, gather_reports
from xmoe.serve.watch.status import Homes, ask_serve, experts_settle

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
        torch.set_num_threads(checked.router.threads)
        device = pick_device(checked.router.num_gpus)
        weights = find_weights(checked)
        predictor = load_router(checked, device=device)
        callers: dict[str, CallExpert]
        if handles is None:
            callers = LocalExperts.load(checked, predictor.config, device=device).callers()
        else:
            callers = {name: call_handle(handle, weights) for name, handle in handles.items()}
        about = read_about(checked, predictor.config)
        check_unchanged(weights.sha256, about.weights_sha256, checked.run)
        router = RouterCore(
            predictor, callers, checked, meter=RayMeter(about.name, about.weights_sha256)
        )
        explainer = Explainer(checked.run, predictor.config, which=checked.which)
        self.service = Service(
            router,
            explainer=explainer,
            about=about,
            homes=find_homes(callers, handles),
            siblings=find_siblings(),
        )
        self._gate = Gate(
            build_app(self.service, tokens=read_tokens(checked.http)),
            at_once=checked.router.max_ongoing_requests,
            waiting=checked.router.max_queued_requests,
            held_bytes=checked.http.max_held_bytes,
            retry_after_s=checked.faults.retry_after_s,
            note=self.service.meter.note_refusal,
        )
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


def find_here() -> ReplicaContext | None:
    """Which replica this is; None in Serve's local testing mode."""
    try:
        return serve.get_replica_context()
    except RayServeException:
        return None


def find_homes(
    callers: Mapping[str, CallExpert], handles: Mapping[str, DeploymentHandle[Any]] | None
) -> Homes | None:
    """The deployment of each expert, this router's where they are inside it.

    None in Serve's local testing mode, where there are no replicas.
    """
    here = find_here()
    if here is None:
        return None
    own = here.deployment
    homes = {n: handles[n].deployment_name if handles is not None else own for n in callers}
    return Homes(homes, own, partial(ask_serve, here.app_name))


def find_siblings() -> Siblings | None:
    """A way to ask all routers of this application; None in Serve's local testing mode."""
    here = find_here()
    if here is None:
        return None
    find_handle = cache(partial(serve.get_deployment_handle, here.deployment, here.app_name))

    async def ask() -> list[RouterReport | None]:
        response = (await asyncio.to_thread(find_handle)).broadcast("report")
        # results_async would return nothing while one router hangs
        replies = await response._fetch_replica_results_async()
        return await gather_reports(reply.get_async() for reply in replies)

    return Siblings(here.replica_id.unique_id, here.app_name, ask)


def find_weights(settings: ServeSettings) -> Weights:
    with fetched(settings.run, [], which=settings.which) as folder:
        return Weights(settings.run, settings.which, hash_weights(folder, settings.which))


def call_handle(handle: DeploymentHandle[Any], weights: Weights) -> CallExpert:
    """A caller that reaches an expert's deployment by gRPC, values in the message."""
    by_value = handle.options(method_name="infer", _by_reference=False)

    async def call(request: ExpertRequest, budget_s: float) -> Tensor:
        try:
            going_on = traces.give_on()
            traced = (going_on,) if going_on else ()  # experts of an older version take no trace
            response = by_value.remote(to_arrays(request), budget_s, weights, *traced)
            try:
                return torch.from_numpy(np.array(await response))
            finally:
                cancel_quietly(response.cancel)
        except Exception as error:
            raise CallFailed(kind_of_failure(error)) from error

    return call


def kind_of_failure(error: BaseException) -> FailureKind:
    """What an exception from a handle means for the call."""
    if isinstance(error, BackPressureError):
        return "overloaded"
    if isinstance(error, ray.exceptions.RayTaskError):
        kinds: dict[type, FailureKind] = {TimeoutError: "timeout", OtherRun: "other_run"}
        return next((kind for one, kind in kinds.items() if isinstance(error.cause, one)), "error")
    dead = (ray.exceptions.RayActorError, ray.exceptions.RaySystemError, RayServeException)
    if isinstance(error, dead) or type(error).__name__ == "AioRpcError":
        return "dead"
    return "timeout" if isinstance(error, TimeoutError) else "error"


def cancel_quietly(cancel: Callable[[], None]) -> None:
    """Cancel a call that nobody waits for, whatever its state."""
    try:
        cancel()
    except (RayServeException, ray.exceptions.RayError, RuntimeError, ValueError):
        return
