"""Ray Serve as the stage of releases: applications by name, on the connected Ray.

Each application is sent by itself (``serve.run_many``), never as a list of all: Ray's declarative
way (``serve deploy``, REST) deletes what it does not find in the list, another team's too.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from xmoe.base.errors import XmoeError
from xmoe.serve.deploy.preflight import TOLERANCE, Rehearsal
from xmoe.serve.deploy.registry import TrialPlan
from xmoe.serve.deploy.release import Say
from xmoe.serve.deploy.trial import TrialCount
from xmoe.serve.settings import ServeSettings
from xmoe.serve.start.cluster import Place, find_address, look_around
from xmoe.serve.start.router_replica import ROUTER, candidate_of

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle

LOOK_S = 0.5
ANSWER_S = 60.0
# While replicas start and the machine is busy, an answer may lack an expert.
SMOKE_WITHIN_S = 30.0
LOGS = "see the replica's log in /tmp/ray/session_latest/logs/serve"


class ServeStage:
    """The applications of one name; ``within_s`` is how long one may take to get ready."""

    def __init__(self, place: Place, *, within_s: float, say: Say = lambda line: None) -> None:
        self.app = place.name
        self.candidate = candidate_of(place.name)
        self._route_prefix = place.route_prefix
        self._within_s = within_s
        self._say = say

    @property
    def address(self) -> str:
        """Where production answers; XmoeError where Serve takes no requests."""
        from ray.util import get_node_ip_address

        around = look_around()
        if around is None:
            raise XmoeError("Serve does not run there", mend="xmoe deploy starts it")
        return find_address(around, self._route_prefix, get_node_ip_address())

    def runs(self, app: str) -> bool:
        around = look_around()
        return around is not None and app in around.applications

    def run(self, app: str, settings: ServeSettings) -> None:
        from ray import serve
        from ray.serve.api import RunTarget

        from xmoe.serve.start.build import build_application

        route = self._route_prefix if app == self.app else None
        beside = {"gently": self.runs(self.app)}
        application = build_application(settings.model_copy(update=beside))
        target = RunTarget(application, name=app, route_prefix=route)
        began = time.monotonic()
        serve.run_many([target], wait_for_applications_running=False)
        while (found := _status_of(app)).status != "RUNNING":
            spent = time.monotonic() - began
            if found.status == "DEPLOY_FAILED" or spent > self._within_s:
                waits = ", ".join(
                    name for name, one in found.deployments.items() if one.status != "HEALTHY"
                )
                what = f"{waits or app} not ready after {spent:.0f} s"
                raise XmoeError(what, where=_last_line(found.message), mend=LOGS)
            time.sleep(LOOK_S)
        self._say(f"ready     {app} after {time.monotonic() - began:.0f} s")

    def check(self, app: str, rehearsal: Rehearsal) -> None:
        end = time.monotonic() + SMOKE_WITHIN_S
        while (wrong := self._smoke(app, rehearsal)) is not None:
            if time.monotonic() > end:
                raise XmoeError(f"the smoke test failed: {wrong}", mend=LOGS)
            time.sleep(LOOK_S)

    def _smoke(self, app: str, rehearsal: Rehearsal) -> str | None:
        """What is wrong with an answer, None where all are right."""
        handle = _router_of(app)
        routers = 0
        for recording, wanted in zip(rehearsal.recordings, rehearsal.answers, strict=True):
            try:
                answers = handle.broadcast("classify", recording).results(timeout_s=ANSWER_S)
            except Exception as error:  # Ray wraps whatever the replica raised
                return _last_line(str(error)) or type(error).__name__
            routers = len(answers)
            for answer in answers:
                if wrong := find_fault(answer, rehearsal.weights_sha256, wanted):
                    return wrong
        if not routers:
            return "no router answers"
        told = f"{routers} router" + "s" * (routers > 1)
        self._say(f"smoke     {len(rehearsal.recordings)} recordings, {told}: same answers")
        return None

    def try_out(self, plan: TrialPlan | None) -> None:
        told = None if plan is None else plan.model_dump(mode="json")
        self._broadcast("try_out", told)

    def count(self) -> TrialCount:
        counts = [TrialCount.model_validate(one) for one in self._broadcast("count_trial") if one]
        return sum(counts, TrialCount())

    def _broadcast(self, method: str, *args: Any) -> list[Any]:
        try:
            found: list[Any] = (
                _router_of(self.app).broadcast(method, *args).results(timeout_s=ANSWER_S)
            )
        except Exception as error:  # Ray wraps whatever the replica raised
            what = f"the routers of {self.app} do not answer: {_last_line(str(error))}"
            raise XmoeError(what, mend="is it running? serve status") from error
        return found

    def delete(self, app: str) -> None:
        from ray import serve

        serve.delete(app)


def find_fault(answer: Any, sha256: str, wanted: Any) -> str | None:
    """How a served answer differs from the run's own, None where it does not."""
    if answer["weights_sha256"] != sha256:
        return "an answer came from other weights"
    if answer["degraded"]:
        return f"experts are missing: {', '.join(answer['missing_experts'])}"
    apart = max(abs(answer["probabilities"][name] - p) for name, p in wanted.items())
    return f"an answer differs by {apart:.2g} from the run's own" if apart > TOLERANCE else None


def _router_of(app: str) -> DeploymentHandle[Any]:
    from ray import serve

    return serve.get_deployment_handle(ROUTER, app)


def _status_of(app: str) -> Any:
    from ray import serve

    found = serve.status().applications.get(app)
    if found is None:
        raise XmoeError(f"the application {app} was taken away meanwhile", mend="serve status")
    return found


def _last_line(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1].strip()[:300] if lines else ""
