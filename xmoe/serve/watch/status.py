"""How many replicas each deployment of an application has, according to Ray Serve.

Asking takes a round trip to Serve's controller, so it happens in a thread and the result is kept
for a second. A controller that does not answer must not fail a request: counts are then unknown.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from xmoe.base.config import Frozen
from xmoe.serve.watch.kept import Kept

if TYPE_CHECKING:
    from ray.serve.context import ReplicaContext

LOG = logging.getLogger("xmoe.serve")
ANSWER_S = 2.0
EXPERT = "expert-"
COMING = ("STARTING", "UPDATING", "RECOVERING", "RUNNING")


class ReplicaCount(Frozen):
    """Replicas that are running, and the number wanted."""

    running: int
    target: int


CountReplicas = Callable[[], Mapping[str, ReplicaCount]]


def count_replicas(states: Mapping[Any, int]) -> ReplicaCount:
    """The count for replicas by state (a name, as Serve's are); stopping ones are gone."""
    return ReplicaCount(
        running=states.get("RUNNING", 0),
        target=sum(states.get(state, 0) for state in COMING),
    )


def ask_serve(app: str) -> dict[str, ReplicaCount]:
    """The count of each deployment of an application; blocks."""
    from ray import serve

    application = serve.status().applications.get(app)
    deployments = {} if application is None else application.deployments
    return {name: count_replicas(found.replica_states) for name, found in deployments.items()}


def find_here() -> ReplicaContext | None:
    """Which replica this is; None in Serve's local testing mode."""
    from ray import serve
    from ray.serve.exceptions import RayServeException

    try:
        return serve.get_replica_context()
    except RayServeException:
        return None


def experts_settle(app: str) -> bool:
    """Whether no expert of an application is being replaced; blocks."""
    from ray import serve

    application = serve.status().applications.get(app)
    deployments = {} if application is None else application.deployments
    return not any(
        found.status == "UPDATING" for name, found in deployments.items() if name.startswith(EXPERT)
    )


@dataclass(frozen=True)
class Homes:
    """The deployments that experts and routers live in, and a way to count replicas."""

    deployments: Mapping[str, str]
    router: str
    count: CountReplicas


class ReplicaWatch:
    """Counts for each expert and the routers, at most a second old."""

    def __init__(self, homes: Homes | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._homes = homes
        self._counts = Kept(self._ask, clock=clock)

    def deployment_of(self, expert: str) -> str | None:
        """The deployment that an expert lives in; None without Serve."""
        return None if self._homes is None else self._homes.deployments.get(expert)

    async def count(self) -> dict[str, ReplicaCount]:
        """The counts of the experts for which they are known."""
        if self._homes is None:
            return {}
        counts, homes = await self._counts.get(), self._homes.deployments.items()
        return {name: counts[home] for name, home in homes if home in counts}

    async def count_routers(self) -> ReplicaCount | None:
        """The count of the routers, None where it is unknown."""
        return None if self._homes is None else (await self._counts.get()).get(self._homes.router)

    async def _ask(self) -> Mapping[str, ReplicaCount]:
        assert self._homes is not None
        try:
            async with asyncio.timeout(ANSWER_S):
                return await asyncio.to_thread(self._homes.count)
        except Exception as error:  # Ray raises its own kinds for a controller that is not there
            LOG.warning("replicas cannot be counted: %s", type(error).__name__)
            return {}
