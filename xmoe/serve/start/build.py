"""Settings -> a Ray Serve application: the only place that binds deployments.

``distributed`` gives each expert a deployment of its own, ``expert-<name>``, beside the ``router``;
``colocated`` has the router alone. ``serve deploy`` files name ``build`` and pass its settings.
"""

from __future__ import annotations

import os
from typing import Any

from pydantic import ValidationError
from ray import serve
from ray.serve import Application, Deployment
from ray.serve.config import AutoscalingConfig, BackpressureConfig

from xmoe.base.errors import ConfigError
from xmoe.run.remote import fetched
from xmoe.serve.experts.expert_replica import ExpertReplica
from xmoe.serve.settings import ExpertDeployment, ReplicaSettings, ServeSettings
from xmoe.serve.start.router_replica import ROUTER, RouterReplica
from xmoe.serve.telemetry import traces
from xmoe.serve.watch.status import EXPERT

MOST_ROUTERS = 4
# A router counts its own requests (drain.py) and sends 429 long before Ray would.
BEYOND_THE_GATE = 4096


def build(args: dict[str, Any]) -> Application:
    """The application for settings as plain values; ConfigError names what is wrong."""
    return build_application(check_settings(args))


def check_settings(args: dict[str, Any]) -> ServeSettings:
    """Validated settings; ConfigError for unknown or out-of-range options."""
    try:
        return ServeSettings.model_validate(args)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(first["msg"], where=where, mend="see docs/serving.md") from error


def build_application(settings: ServeSettings) -> Application:
    """The application for a run; RunFolderError where there is no run.

    ConfigError where the environment asks for traces that cannot be sent.
    """
    traces.is_asked()
    with fetched(settings.run, [], which=settings.which) as folder:
        config = folder.read_config()
    names = config.model.callable_experts
    if unknown := sorted(set(settings.experts) - set(names)):
        raise ConfigError(
            f"the run has no experts {', '.join(unknown)}",
            where="experts",
            mend=f"its experts are {', '.join(names)}",
        )
    values = settings.model_dump(mode="json")
    router = settings.router
    make_router = declare(
        serve.ingress()(RouterReplica),
        name=ROUTER,
        num_replicas=count_routers(settings),
        max_ongoing_requests=max(BEYOND_THE_GATE, 4 * router.max_ongoing_requests),
        max_queued_requests=-1,
        backpressure_config=BackpressureConfig(
            status_code=429, retry_after_s=settings.faults.retry_after_s
        ),
        ray_actor_options=actor_options(router),
        max_surge_percent=settings.surge_percent,
        graceful_shutdown_wait_loop_s=0.5,
        graceful_shutdown_timeout_s=10.0,
        **logging_of(settings),
    )
    if settings.topology == "colocated":
        return make_router.bind(values)
    return make_router.bind(values, {name: _bind_expert(settings, name) for name in names})


def count_routers(settings: ServeSettings) -> int:
    """How many router processes: as asked, else what suits the topology.

    A router that holds the experts does all the work, so one process would leave processors idle.
    """
    router = settings.router
    if router.replicas is not None:
        return router.replicas
    if settings.topology == "distributed" or router.num_gpus > 0:
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(cores or 1, MOST_ROUTERS)


def _bind_expert(settings: ServeSettings, name: str) -> Application:
    expert = settings.deployment_of(name)
    return declare(
        ExpertReplica,
        name=f"{EXPERT}{name}",
        max_ongoing_requests=expert.max_ongoing_requests,
        max_queued_requests=expert.max_queued_requests,
        health_check_period_s=expert.health_check_period_s,
        health_check_timeout_s=expert.health_check_timeout_s,
        ray_actor_options=actor_options(expert),
        max_surge_percent=settings.surge_percent,
        graceful_shutdown_wait_loop_s=0.5,
        graceful_shutdown_timeout_s=10.0,
        **scaling_of(expert),
        **logging_of(settings),
    ).bind(settings.model_dump(mode="json"), name)


def declare(kind: type[Any], **options: Any) -> Deployment:
    deployment: Deployment = serve.deployment(**options)(kind)
    return deployment


def actor_options(asked: ReplicaSettings) -> dict[str, Any]:
    """What Ray must find free on a node for one replica."""
    options: dict[str, Any] = {"num_cpus": asked.num_cpus, "num_gpus": asked.num_gpus}
    if asked.memory_mb is not None:
        options["memory"] = int(asked.memory_mb * 1e6)
    if asked.resources:
        options["resources"] = dict(asked.resources)
    return options


def logging_of(settings: ServeSettings) -> dict[str, Any]:
    """The arguments for how replicas log; request lines are ours (logs.py)."""
    if settings.logs == "text":
        return {}
    return {"logging_config": {"encoding": "JSON", "enable_access_log": False}}


def scaling_of(expert: ExpertDeployment) -> dict[str, Any]:
    """The arguments for the number of replicas."""
    if expert.max_replicas <= expert.min_replicas:
        return {"num_replicas": expert.min_replicas}
    config = AutoscalingConfig(
        min_replicas=expert.min_replicas,
        max_replicas=expert.max_replicas,
        target_ongoing_requests=expert.target_ongoing_requests,
        upscale_delay_s=expert.upscale_delay_s,
        downscale_delay_s=expert.downscale_delay_s,
        look_back_period_s=expert.look_back_period_s,
        metrics_interval_s=expert.metrics_interval_s,
    )
    return {"autoscaling_config": config}
