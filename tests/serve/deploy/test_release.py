"""Releases on a stage that only remembers: order of steps, what is taken back, what is refused."""

from dataclasses import dataclass, field

import pytest

from xmoe.base.errors import ConfigError, XmoeError
from xmoe.serve.deploy.preflight import Rehearsal, Verdict
from xmoe.serve.deploy.registry import Registry, TrialPlan
from xmoe.serve.deploy.release import Order, Releases, describe_count
from xmoe.serve.deploy.trial import TrialCount
from xmoe.serve.settings import ServeSettings

GOOD = Verdict(("golden ok",), (), {"accuracy": 0.9})
BAD = Verdict((), ("it is worse",), {"accuracy": 0.1})


@dataclass
class FakeStage:
    """Applications as a table; what is told to fail does."""

    app: str = "birds"
    candidate: str = "birds-candidate"
    running: dict = field(default_factory=dict)
    fails: set = field(default_factory=set)
    wrong: set = field(default_factory=set)
    trial: TrialPlan | None = None
    came: TrialCount = field(default_factory=lambda: TrialCount(asked=100, answered=100))
    steps: list = field(default_factory=list)

    def runs(self, app):
        return app in self.running

    def run(self, app, settings):
        self.steps.append(("run", app, settings.run))
        if settings.run in self.fails:
            raise XmoeError("not ready")
        self.running[app] = settings

    def check(self, app, rehearsal):
        if self.running[app].run in self.wrong:
            raise XmoeError("the smoke test failed")

    def try_out(self, plan):
        self.trial = plan

    def count(self):
        return self.came

    def delete(self, app):
        self.steps.append(("delete", app))
        self.running.pop(app, None)


@pytest.fixture
def stage():
    return FakeStage()


@pytest.fixture
def releases(stage, tmp_path):
    def hear(settings):
        return Rehearsal(settings.run[-1] * 64, (), ())

    return Releases(Registry(str(tmp_path), "birds"), stage, ask=hear)


def deploy(releases, run, verdict=GOOD, **order):
    settings = ServeSettings(run=run)
    return releases.deploy(settings, Rehearsal(run[-1] * 64, (), ()), verdict, Order(**order))


def test_deploys_follow_each_other_and_each_is_remembered(releases, stage):
    deploy(releases, "/runs/1", why="first")
    state = deploy(releases, "/runs/2")
    assert (state.production, state.past, state.rolling) == (2, (1,), None)
    assert [version.settings.run for version in state.versions] == ["/runs/1", "/runs/2"]
    assert state.versions[0].why == "first"
    assert state.versions[1].figures == {"accuracy": 0.9}
    assert stage.running["birds"].run == "/runs/2"
    assert stage.running["birds"].registry == releases.registry.address


def test_worse_run_is_refused_and_nothing_is_sent(releases, stage):
    deploy(releases, "/runs/1")
    before = list(stage.steps)
    with pytest.raises(ConfigError, match="it is worse"):
        deploy(releases, "/runs/2", BAD)
    assert stage.steps == before
    assert releases.registry.read().change.what == "deployed"
    forced = deploy(releases, "/runs/2", BAD, force=True)
    assert (forced.production, forced.change.note) == (2, "forced: it is worse")


@pytest.mark.parametrize("how", ["fails", "wrong"])
def test_version_that_fails_is_taken_back_by_itself(releases, stage, how):
    deploy(releases, "/runs/1")
    getattr(stage, how).add("/runs/2")
    with pytest.raises(XmoeError, match="version 2 was taken back"):
        deploy(releases, "/runs/2")
    state = releases.registry.read()
    assert (state.production, state.rolling, state.change.what) == (1, None, "failed")
    assert stage.running["birds"].run == "/runs/1"
    assert stage.steps[-1] == ("run", "birds", "/runs/1")


def test_first_version_that_fails_is_taken_away(releases, stage):
    stage.wrong.add("/runs/1")
    with pytest.raises(XmoeError, match="taken back"):
        deploy(releases, "/runs/1")
    assert stage.running == {}
    assert releases.registry.read().production is None


def test_rollback_goes_back_one_version_at_a_time(releases, stage):
    for run in ("/runs/1", "/runs/2", "/runs/3"):
        deploy(releases, run)
    assert releases.rollback(why="worse at night").production == 2
    state = releases.rollback()
    assert (state.production, state.past) == (1, ())
    assert stage.running["birds"].run == "/runs/1"
    with pytest.raises(ConfigError, match="no version before"):
        releases.rollback()


def test_rollback_to_other_weights_is_refused(releases, stage, tmp_path):
    deploy(releases, "/runs/1")
    deploy(releases, "/runs/2")
    changed = Releases(releases.registry, stage, ask=lambda settings: Rehearsal("f" * 64, (), ()))
    with pytest.raises(ConfigError, match="no longer those of version 1"):
        changed.rollback()
    assert stage.running["birds"].run == "/runs/2"


def test_shadow_runs_beside_production_and_is_promoted(releases, stage):
    deploy(releases, "/runs/1")
    state = deploy(releases, "/runs/2", mode="shadow")
    assert (state.production, state.candidate) == (1, 2)
    assert state.trial == stage.trial == TrialPlan(version=2, mode="shadow")
    assert stage.running["birds-candidate"].registry is None
    state = releases.promote(why="better")
    assert (state.production, state.candidate, state.trial, state.past) == (2, None, None, (1,))
    assert stage.trial is None
    assert set(stage.running) == {"birds"}
    assert state.change.note.startswith("shadow of version 2: 100 of 100 answered")


def test_rollback_ends_a_trial_and_leaves_production_alone(releases, stage):
    deploy(releases, "/runs/1")
    deploy(releases, "/runs/2", mode="canary", share=0.05)
    before = [step for step in stage.steps if step[1] == "birds"]
    state = releases.rollback()
    assert (state.production, state.candidate, state.trial) == (1, None, None)
    assert (state.change.what, stage.trial) == ("trial ended", None)
    assert set(stage.running) == {"birds"}
    assert [step for step in stage.steps if step[1] == "birds"] == before


def test_candidate_that_fails_is_not_promoted(releases, stage):
    deploy(releases, "/runs/1")
    deploy(releases, "/runs/2", mode="canary", share=0.05)
    for came, told in (
        (TrialCount(), "answered no recording yet"),
        (TrialCount(asked=100, answered=98, failed=2), "failed in 2 of 100"),
    ):
        stage.came = came
        with pytest.raises(ConfigError, match=told):
            releases.promote()
    assert releases.promote(force=True).production == 2


def test_promotion_that_fails_brings_the_old_version_back(releases, stage):
    deploy(releases, "/runs/1")
    deploy(releases, "/runs/2", mode="canary", share=0.05)
    stage.fails.add("/runs/2")
    with pytest.raises(XmoeError, match="taken back"):
        releases.promote()
    state = releases.registry.read()
    assert (state.production, state.candidate, state.trial) == (1, None, None)
    assert set(stage.running) == {"birds"}


def test_candidate_that_does_not_start_leaves_production_alone(releases, stage):
    deploy(releases, "/runs/1")
    stage.fails.add("/runs/2")
    with pytest.raises(XmoeError, match="version 2 was taken back"):
        deploy(releases, "/runs/2", mode="shadow")
    assert set(stage.running) == {"birds"}
    assert releases.registry.read().trial is None


def test_what_a_killed_command_left_is_mended_by_rollback(releases, stage):
    deploy(releases, "/runs/1")

    def die(app, settings):
        raise KeyboardInterrupt

    run, stage.run = stage.run, die
    with pytest.raises(KeyboardInterrupt):
        deploy(releases, "/runs/2")
    stage.run = run
    with pytest.raises(ConfigError, match="version 2 is being rolled out"):
        deploy(releases, "/runs/3")
    state = releases.rollback()
    assert (state.production, state.rolling) == (1, None)
    assert stage.steps[-1] == ("run", "birds", "/runs/1")
    assert deploy(releases, "/runs/3").production == 3


def test_what_cannot_be_deployed_now_is_refused(releases, stage):
    with pytest.raises(ConfigError, match="nothing is served yet"):
        deploy(releases, "/runs/1", mode="shadow")
    stage.running["birds"] = ServeSettings(run="/theirs")
    with pytest.raises(ConfigError, match="does not know"):
        deploy(releases, "/runs/1")
    deploy(releases, "/runs/1", replace=True)
    deploy(releases, "/runs/2", mode="shadow")
    with pytest.raises(ConfigError, match="version 2 is on trial"):
        deploy(releases, "/runs/3")
    releases.rollback()
    with pytest.raises(ConfigError, match="nothing is on trial"):
        releases.promote()


def test_counts_are_told_in_words():
    plan = TrialPlan(version=2, mode="shadow")
    count = TrialCount(
        asked=50, answered=40, failed=10, disagreed=4, candidate_ms=400, own_ms=100, own_answers=50
    )
    assert describe_count(plan, count) == (
        "shadow of version 2: 40 of 50 answered, 10 ms each (2 ms in production), 4 disagreed, "
        "10 failed"
    )
