"""Settings -> all that a router is made of, and how it calls the experts' deployments.

Apart from ``router_replica``, which whoever deploys imports too: this takes seconds to import.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

import numpy as np
import ray.exceptions
import torch
from ray import serve
from ray.serve.exceptions import BackPressureError, RayServeException
from ray.serve.handle import DeploymentHandle
from torch import Tensor

from xmoe.experts.protocol import ExpertRequest
from xmoe.mixture.calls import CallExpert, CallFailed, FailureKind
from xmoe.run.remote import fetched
from xmoe.serve.experts.expert import OtherRun, Weights, check_unchanged
from xmoe.serve.experts.local import LocalExperts, to_arrays
from xmoe.serve.experts.process import pick_device
from xmoe.serve.guard.drain import Gate
from xmoe.serve.guard.tokens import read_tokens
from xmoe.serve.http.api import build_app
from xmoe.serve.http.explainer import Explainer
from xmoe.serve.http.service import Service
from xmoe.serve.router.router import RouterCore, load_router
from xmoe.serve.settings import ServeSettings
from xmoe.serve.telemetry import traces
from xmoe.serve.telemetry.metrics import RayMeter
from xmoe.serve.watch.about import read_about
from xmoe.serve.watch.fleet import RouterReport, Siblings, gather_reports
from xmoe.serve.watch.status import Homes, ask_serve, find_here

Handles = Mapping[str, DeploymentHandle[Any]]


def assemble(settings: ServeSettings, handles: Handles | None) -> Service:
    """The service of one router; without ``handles`` the experts are inside it."""
    torch.set_num_threads(settings.router.threads)
    device = pick_device(settings.router.num_gpus)
    weights = find_weights(settings)
    predictor = load_router(settings, device=device)
    callers: dict[str, CallExpert]
    if handles is None:
        callers = LocalExperts.load(settings, predictor.config, device=device).callers()
    else:
        callers = {name: call_handle(handle, weights) for name, handle in handles.items()}
    about = read_about(settings, predictor.config)
    check_unchanged(weights.sha256, about.weights_sha256, settings.run)
    meter = RayMeter(about.name, about.weights_sha256)
    return Service(
        RouterCore(predictor, callers, settings, meter=meter),
        explainer=Explainer(settings.run, predictor.config, which=settings.which),
        about=about,
        homes=find_homes(callers, handles),
        siblings=find_siblings(),
    )


def open_gate(service: Service) -> Gate:
    """The application of a service, and what bounds the requests that it holds."""
    router, http = service.settings.router, service.settings.http
    return Gate(
        build_app(service, tokens=read_tokens(http)),
        at_once=router.max_ongoing_requests,
        waiting=router.max_queued_requests,
        held_bytes=http.max_held_bytes,
        retry_after_s=service.settings.faults.retry_after_s,
        note=service.meter.note_refusal,
    )


def find_homes(callers: Mapping[str, CallExpert], handles: Handles | None) -> Homes | None:
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
        return Weights(settings.run, settings.which, folder.fingerprint(settings.which))


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
