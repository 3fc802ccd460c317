"""What operators ask: experts, routers, answers, drift, versions, trials.

One router is asked and speaks for all. Versions come from the registry that `xmoe deploy` writes;
an application served without it has none.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from xmoe import __version__
from xmoe.base.config import Frozen
from xmoe.base.errors import XmoeError
from xmoe.serve.deploy.registry import Change, TrialPlan, Version, read_state
from xmoe.serve.deploy.registry import State as Registered
from xmoe.serve.deploy.trial import Trial, TrialCount
from xmoe.serve.experts.breaker import State
from xmoe.serve.router.router import RouterCore
from xmoe.serve.telemetry.tally import Calls
from xmoe.serve.watch.about import About
from xmoe.serve.watch.fleet import Fleet, Reports, RouterReport, Siblings, Spoken
from xmoe.serve.watch.kept import Kept
from xmoe.serve.watch.status import Homes, ReplicaCount, ReplicaWatch
from xmoe.serve.watch.watch import DriftAnswer, Watch
from xmoe.storage.place import open_place

LOG = logging.getLogger("xmoe.serve")
REGISTRY_KEPT_S = 10.0
REGISTRY_S = 5.0
# How many of the latest versions /v1/ops lists.
MOST_VERSIONS = 20


class ExpertState(Frozen):
    """One expert as all routers see it now.

    ``deployment`` is its own or the router's; ``replicas`` are that deployment's, null where Ray
    Serve cannot be asked. ``breaker`` is the worst state among the routers, ``breakers`` counts
    routers by state. ``per_s`` are calls a second over the last minute, ``ongoing`` those not yet
    answered, ``queued`` those among them beyond what the running replicas take at once.
    Milliseconds cover the last successful calls, null before the first.
    """

    name: str
    kind: str
    deployment: str | None = None
    replicas: ReplicaCount | None = None
    breaker: State
    breakers: dict[State, int]
    calls: int
    per_s: float
    ongoing: int
    queued: int
    failures: dict[str, int]
    mean_ms: float | None
    p95_ms: float | None


class ExpertsAnswer(Spoken):
    """All experts as the routers see them, and the segments that wait in the routers."""

    experts: tuple[ExpertState, ...]
    waiting_segments: int


class Load(Frozen):
    """Requests to a router, or to all: rate over the last minute, refusals by code, latency.

    ``requests`` are answers and refusals; a window of a stream counts as one. Milliseconds cover
    the last answers, null before the first.
    """

    requests: int
    per_s: float
    refusals: dict[str, int]
    degraded: int
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    waiting_segments: int


class VersionSummary(Frozen):
    """A deployed version without its settings; ``role`` is what it is now."""

    number: int
    role: str
    run: str
    weights_sha256: str
    figures: dict[str, float]
    by: str
    at: str
    why: str


class RegistrySummary(Frozen):
    """The registry: latest versions, what is rolled out or on trial, the last change.

    ``problem`` says why it cannot be read.
    """

    versions: tuple[VersionSummary, ...] = ()
    rolling: int | None = None
    trial: TrialPlan | None = None
    change: Change = Change()
    problem: str = ""


class OpsAnswer(Spoken):
    """An application in short: load of all ``routers`` and of ``each``, K of the answers, versions.

    ``asked`` counts answers by K, rounded to a whole number; ``mean_k`` is null before the first.
    ``others`` counts routers with other weights, by these. ``trial`` is the result of the trial so
    far.
    """

    application: str
    xmoe: str
    run: str
    weights_sha256: str
    router_replicas: ReplicaCount | None
    load: Load
    each: dict[str, Load]
    asked: dict[int, int]
    mean_k: float | None
    others: dict[str, int]
    registry: RegistrySummary | None
    trial: TrialCount | None


class Operations:
    """What one router tells of all; ``trial`` gives its current trial."""

    def __init__(
        self,
        router: RouterCore,
        incoming: Watch,
        about: About,
        trial: Callable[[], Trial | None],
        *,
        homes: Homes | None = None,
        siblings: Siblings | None = None,
    ) -> None:
        self._router = router
        self._incoming = incoming
        self._about = about
        self._trial = trial
        self._watch = ReplicaWatch(homes)
        self._here = siblings
        self.fleet = Fleet(self.report, siblings)
        self._registry = Kept(self._read_registry, kept_s=REGISTRY_KEPT_S)

    def report(self) -> RouterReport:
        fanout, meter, drift = self._router.fanout, self._router.meter, self._incoming.drift
        names, trial = self._router.config.model.callable_experts, self._trial()
        return RouterReport(
            replica="" if self._here is None else self._here.replica,
            weights_sha256=self._about.weights_sha256,
            waiting_segments=self._router.waiting,
            experts={name: fanout.tallies[name].count for name in names},
            breakers={name: fanout.breakers[name].state for name in names},
            requests=meter.requests.count,
            asked=dict(meter.asked),
            k_total=meter.k_total,
            degraded=meter.degraded,
            drift=None if drift is None else drift.count,
            trial=None if trial is None else trial.count,
        )

    async def describe_drift(self) -> DriftAnswer:
        return self._incoming.describe(await self.fleet.reports())

    async def describe_experts(self) -> ExpertsAnswer:
        counts, reports = await asyncio.gather(self._watch.count(), self.fleet.reports())
        names = self._router.config.model.callable_experts
        states = tuple(self._describe_expert(name, counts.get(name), reports) for name in names)
        return ExpertsAnswer(
            experts=states, waiting_segments=reports.waiting_segments, **reports.spoken
        )

    def _describe_expert(
        self, name: str, replicas: ReplicaCount | None, reports: Reports
    ) -> ExpertState:
        calls, breakers = reports.calls_to(name), reports.breakers_of(name)
        running = 1 if replicas is None else replicas.running
        at_once = running * self._router.settings.deployment_of(name).max_ongoing_requests
        return ExpertState(
            name=name,
            kind=self._router.config.model.spec_of(name).kind,
            deployment=self._watch.deployment_of(name),
            replicas=replicas,
            breaker=next(iter(breakers)),
            breakers=breakers,
            calls=calls.calls,
            per_s=round(calls.per_s, 3),
            ongoing=calls.ongoing,
            queued=max(0, calls.ongoing - at_once),
            failures=calls.failures,
            mean_ms=calls.mean_ms,
            p95_ms=calls.percentile_ms(95.0),
        )

    async def describe(self) -> OpsAnswer:
        routers, reports, registry = await asyncio.gather(
            self._watch.count_routers(), self.fleet.reports(), self._registry.get()
        )
        told = reports.routers
        asked: Counter[int] = sum((Counter(one.asked) for one in told), Counter())
        trials = [one.trial for one in told if one.trial is not None]
        return OpsAnswer(
            application="" if self._here is None else self._here.application,
            xmoe=__version__,
            run=self._about.name,
            weights_sha256=self._about.weights_sha256,
            router_replicas=routers,
            load=load_of(told),
            each={one.replica: load_of((one,)) for one in told},
            asked=dict(sorted(asked.items())),
            mean_k=sum(one.k_total for one in told) / asked.total() if asked else None,
            others=dict(reports.others),
            registry=registry,
            trial=sum(trials, TrialCount()) if trials else None,
            **reports.spoken,
        )

    async def _read_registry(self) -> RegistrySummary | None:
        address = self._router.settings.registry
        if address is None:
            return None
        try:
            async with asyncio.timeout(REGISTRY_S):
                return summarise(await asyncio.to_thread(read_state, open_place(address)))
        except TimeoutError:
            return RegistrySummary(problem=f"it does not answer within {REGISTRY_S:g} s")
        except (XmoeError, OSError) as error:
            LOG.warning("the registry cannot be read: %s", error)
            return RegistrySummary(problem=str(error))


def load_of(routers: Sequence[RouterReport]) -> Load:
    requests = sum((one.requests for one in routers), Calls())
    return Load(
        requests=requests.calls,
        per_s=round(requests.per_s, 3),
        refusals=requests.failures,
        degraded=sum(one.degraded for one in routers),
        p50_ms=requests.percentile_ms(50.0),
        p95_ms=requests.percentile_ms(95.0),
        p99_ms=requests.percentile_ms(99.0),
        waiting_segments=sum(one.waiting_segments for one in routers),
    )


def summarise(state: Registered) -> RegistrySummary:
    """The last versions, latest first, each with its role."""

    def describe(version: Version) -> VersionSummary:
        roles = {"production": state.production, "candidate": state.candidate}
        kept: dict[str, Any] = version.model_dump(exclude={"settings"})
        return VersionSummary(
            **kept,
            role=next((name for name, number in roles.items() if number == version.number), ""),
            run=version.settings.run,
        )

    latest = state.versions[: -MOST_VERSIONS - 1 : -1]
    return RegistrySummary(
        versions=tuple(map(describe, latest)),
        rolling=state.rolling,
        trial=state.trial,
        change=state.change,
    )
