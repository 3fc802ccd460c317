"""A version of a run -> served, tried, promoted or taken back, with every step in the registry.

    deploy     roll out -> ready -> smoke test -> production;  a failure is rolled back by itself
    deploy --shadow | --canary     the candidate runs beside production, which knows of it
    promote    the candidate becomes production
    rollback   undo the last of these

Only a ``Stage`` touches a cluster; ``start.stage`` has the one of Ray Serve.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from xmoe.base.errors import ConfigError, XmoeError
from xmoe.serve.deploy.preflight import Rehearsal, Verdict, rehearse
from xmoe.serve.deploy.registry import Change, Mode, Registry, State, TrialPlan, Version, What, now
from xmoe.serve.deploy.trial import TrialCount
from xmoe.serve.settings import ServeSettings

MAY_FAIL = 0.01
Say = Callable[[str], None]


class Stage(Protocol):
    """Where applications run. Failures there raise XmoeError."""

    app: str
    candidate: str

    def runs(self, app: str) -> bool:
        """Whether such an application exists."""

    def run(self, app: str, settings: ServeSettings) -> None:
        """Put an application in place of whatever has its name, and wait until it is ready."""

    def check(self, app: str, rehearsal: Rehearsal) -> None:
        """Have every router answer the recordings; raise where one answers differently."""

    def try_out(self, plan: TrialPlan | None) -> None:
        """Tell the production routers of a trial, or of its end."""

    def count(self) -> TrialCount:
        """The result of the trial over all routers."""

    def delete(self, app: str) -> None:
        """Remove an application."""


@dataclass(frozen=True)
class Order:
    """Why and how a run is deployed: at once, or on trial with a ``share`` of the recordings.

    ``force`` overrules objections, which are recorded; ``replace`` lets it take the place of an
    application that the registry does not know.
    """

    why: str = ""
    mode: Mode | None = None
    share: float = 1.0
    force: bool = False
    replace: bool = False


class Releases:
    """The versions of one application on one stage."""

    def __init__(
        self,
        registry: Registry,
        stage: Stage,
        *,
        ask: Callable[[ServeSettings], Rehearsal] = rehearse,
        say: Say = lambda line: None,
    ) -> None:
        self.registry = registry
        self._stage = stage
        self._ask = ask
        self._say = say

    def check(self, order: Order) -> State:
        """The state; ConfigError where nothing can be deployed now."""
        state = self._settled()
        if state.trial is not None:
            raise ConfigError(
                f"version {state.trial.version} is on trial",
                mend="end it first: xmoe promote, or xmoe rollback",
            )
        if order.mode is not None and state.production is None:
            mend = "deploy the first version without --shadow and --canary"
            raise ConfigError("nothing is served yet to try it beside", mend=mend)
        if state.production is None and not order.replace and self._stage.runs(self._stage.app):
            raise ConfigError(
                f"an application {self._stage.app} runs there that this registry does not know",
                where="--name",
                mend="give another name, or --replace to take its place",
            )
        return state

    def deploy(
        self, settings: ServeSettings, rehearsal: Rehearsal, verdict: Verdict, order: Order
    ) -> State:
        """Serve a checked run, or put it on trial; XmoeError where it was taken back."""
        state = self.check(order)
        refuse(verdict, order)
        number = len(state.versions) + 1
        version = Version(
            number=number,
            settings=settings,
            weights_sha256=rehearsal.weights_sha256,
            figures=verdict.figures,
            by=self.registry.by,
            at=now(),
            why=order.why,
        )
        state = state.model_copy(update={"versions": (*state.versions, version)})
        note = "; ".join(verdict.objections)
        state = self._begin(state, version, f"forced: {note}" if note else "")
        if order.mode is None:
            return self._roll(state, version, rehearsal, "deployed")
        plan = TrialPlan(version=number, mode=order.mode, share=order.share)
        return self._try_out(state, version, rehearsal, plan)

    def promote(self, *, why: str = "", force: bool = False) -> State:
        """Serve the candidate to all; ConfigError where its trial speaks against it."""
        state = self._settled()
        if state.trial is None:
            raise ConfigError("nothing is on trial", mend="xmoe deploy RUN --shadow or --canary 5%")
        count = self._stage.count()
        self._say(f"trial     {describe_count(state.trial, count)}")
        refuse_trial(count, force=force)
        version = state.version(state.trial.version)
        rehearsal = self._rehearse(version)
        note = describe_count(state.trial, count)
        self._stage.try_out(None)
        state = self._begin(state.model_copy(update={"trial": None}), version, note, why)
        state = self._roll(state, version, rehearsal, "promoted")
        self._stage.delete(self._stage.candidate)
        return state

    def rollback(self, *, why: str = "") -> State:
        """Undo the last deploy, promotion or trial, or what a killed command left behind."""
        state = self.registry.read()
        if state.rolling is not None:
            return self._mend(state, why)
        if state.trial is not None:
            return self._end_trial(state, why)
        if not state.past:
            raise ConfigError("there is no version before this one", mend="xmoe versions lists all")
        version = state.version(state.past[-1])
        rehearsal = self._rehearse(version)
        return self._roll(self._begin(state, version, why=why), version, rehearsal, "rolled back")

    def _settled(self) -> State:
        """The state; ConfigError while a version is being rolled out."""
        state = self.registry.read()
        if state.rolling is not None:
            raise ConfigError(
                f"version {state.rolling} is being rolled out since {state.change.at} by "
                f"{state.change.by}",
                mend="wait for it; if that command was killed: xmoe rollback",
            )
        return state

    def _rehearse(self, version: Version) -> Rehearsal:
        rehearsal = self._ask(version.settings)
        if rehearsal.weights_sha256 != version.weights_sha256:
            raise ConfigError(
                f"the weights are no longer those of version {version.number}",
                where=version.settings.run,
                mend="restore the folder from a copy, or deploy it as a new version",
            )
        return rehearsal

    def _begin(self, state: State, version: Version, note: str = "", why: str = "") -> State:
        change = Change(
            what="rolling out", version=version.number, why=why or version.why, note=note
        )
        return self.registry.write(
            state.model_copy(update={"rolling": version.number, "candidate": None}), change
        )

    def _run(self, version: Version, rehearsal: Rehearsal | None) -> None:
        """Roll a version out as production and have it answer."""
        self._say(f"rolling   version {version.number}, {version.settings.run}")
        known = {"registry": self.registry.address}
        self._stage.run(self._stage.app, version.settings.model_copy(update=known))
        if rehearsal is not None:
            self._stage.check(self._stage.app, rehearsal)

    def _roll(self, state: State, version: Version, rehearsal: Rehearsal, what: What) -> State:
        try:
            self._run(version, rehearsal)
        except XmoeError as error:
            raise self._bring_back(state, version, error) from error
        back = what == "rolled back"
        past = state.past[:-1] if back else state.past
        if state.production is not None and not back:
            past = (*past, state.production)
        done = {"production": version.number, "past": past, "rolling": None}
        change = Change(what=what, version=version.number, why=state.change.why)
        return self.registry.write(
            state.model_copy(update=done), change.model_copy(update={"note": state.change.note})
        )

    def _bring_back(self, state: State, version: Version, error: XmoeError) -> XmoeError:
        """Restore the version served before; returns the error that reports it."""
        failed = f"version {version.number} was taken back: {error.what}"
        self._say(f"failed    {error.what}")
        self._restore(state)
        change = Change(what="failed", version=version.number, note=error.what)
        self.registry.write(state.model_copy(update={"rolling": None, "trial": None}), change)
        return XmoeError(failed, where=error.where, mend=error.mend)

    def _restore(self, state: State) -> None:
        """Run production as the registry says, and nothing beside it."""
        if self._stage.runs(self._stage.candidate):
            self._stage.delete(self._stage.candidate)
        if state.served is None:
            self._stage.delete(self._stage.app)
        else:
            self._run(state.served, self._rehearse(state.served))

    def _try_out(
        self, state: State, version: Version, rehearsal: Rehearsal, plan: TrialPlan
    ) -> State:
        candidate = self._stage.candidate
        try:
            self._say(f"starting  version {version.number} as a candidate beside production")
            self._stage.run(candidate, version.settings)
            self._stage.check(candidate, rehearsal)
            self._stage.try_out(plan)
        except XmoeError as error:
            self._stage.try_out(None)
            self._stage.delete(candidate)
            change = Change(what="failed", version=version.number, note=error.what)
            self.registry.write(state.model_copy(update={"rolling": None}), change)
            failed = f"version {version.number} was taken back: {error.what}"
            raise XmoeError(failed, where=error.where, mend=error.mend) from error
        done = {"rolling": None, "candidate": version.number, "trial": plan}
        change = Change(what="on trial", version=version.number, why=version.why)
        return self.registry.write(state.model_copy(update=done), change)

    def _end_trial(self, state: State, why: str) -> State:
        assert state.trial is not None
        count = self._stage.count()
        self._stage.try_out(None)
        self._stage.delete(self._stage.candidate)
        note = describe_count(state.trial, count)
        change = Change(what="trial ended", version=state.candidate, why=why, note=note)
        return self.registry.write(
            state.model_copy(update={"trial": None, "candidate": None}), change
        )

    def _mend(self, state: State, why: str) -> State:
        self._restore(state)
        change = Change(what="rolled back", version=state.production, why=why)
        done = {"rolling": None, "trial": None, "candidate": None}
        return self.registry.write(state.model_copy(update=done), change)


def refuse(verdict: Verdict, order: Order) -> None:
    """Raise ConfigError where there are objections that ``force`` does not overrule."""
    if verdict.objections and not order.force:
        raise ConfigError(
            "the run is not deployed: " + "; ".join(verdict.objections),
            mend="fix the run, or deploy it anyway with --force",
        )


def refuse_trial(count: TrialCount, *, force: bool) -> None:
    """Raise ConfigError where a candidate answered nothing or failed too often."""
    if force:
        return
    if not count.answered:
        mend = "wait for recordings, or --force"
        raise ConfigError("the candidate has answered no recording yet", mend=mend)
    if count.failed > MAY_FAIL * count.asked:
        what = f"the candidate failed in {count.failed} of {count.asked} recordings"
        raise ConfigError(what, mend="xmoe rollback ends the trial; --force promotes it")


def describe_count(plan: TrialPlan, count: TrialCount) -> str:
    told = f"{plan.mode} of version {plan.version}: {count.answered} of {count.asked} answered"
    if count.answered:
        told += f", {count.candidate_ms / count.answered:.0f} ms each"
        if count.own_answers:
            told += f" ({count.own_ms / count.own_answers:.0f} ms in production)"
    if plan.mode == "shadow" and count.answered:
        told += f", {count.disagreed} disagreed"
    more = {"failed": count.failed, "degraded": count.degraded, "skipped": count.skipped}
    return told + "".join(f", {number} {name}" for name, number in more.items() if number)
