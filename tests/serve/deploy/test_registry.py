"""The registry: every change is a file, the last one holds, and two at once are told apart."""

import json

import pytest

from xmoe.base.errors import ConfigError
from xmoe.serve.deploy.registry import (
    Change,
    Registry,
    State,
    TrialPlan,
    Version,
    find_trial,
    read_state,
)
from xmoe.serve.settings import ServeSettings
from xmoe.storage.place import open_place


def version(number):
    settings = ServeSettings(run=f"/runs/{number}")
    return Version(number=number, settings=settings, weights_sha256="a" * 64, by="b", at="c")


def test_nothing_deployed_is_an_empty_state(tmp_path):
    registry = Registry(str(tmp_path / "none"), "birds")
    assert registry.read() == State()
    assert registry.read().served is None


def test_each_change_is_a_file_and_the_last_one_holds(tmp_path):
    registry = Registry(str(tmp_path), "birds")
    first = registry.write(State(), Change(what="rolling out", version=1, why="new"))
    second = registry.write(
        first.model_copy(update={"versions": (version(1),), "production": 1}),
        Change(what="deployed", version=1),
    )
    assert sorted(path.name for path in (tmp_path / "birds").iterdir()) == [
        "000001.json",
        "000002.json",
    ]
    assert registry.read() == second
    assert registry.read().served.settings.run == "/runs/1"
    told = json.loads((tmp_path / "birds" / "000001.json").read_text())["change"]
    assert told["why"] == "new"
    assert "@" in told["by"]
    assert told["at"].endswith("+00:00")


def test_second_of_two_who_change_it_at_once_is_told(tmp_path):
    one, other = Registry(str(tmp_path), "a"), Registry(str(tmp_path), "a")
    seen = other.read()
    one.write(one.read(), Change(what="deployed"))
    with pytest.raises(ConfigError, match="changed by somebody else"):
        other.write(seen, Change(what="rolled back"))
    assert one.read().change.what == "deployed"


def test_applications_do_not_see_each_other(tmp_path):
    Registry(str(tmp_path), "a").write(State(), Change(what="deployed"))
    assert Registry(str(tmp_path), "b").read() == State()


def test_torn_state_is_an_error_that_names_the_file(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "000001.json").write_text("{")
    with pytest.raises(ConfigError, match=r"000001.json: is not a state"):
        Registry(str(tmp_path), "a").read()


def test_router_finds_what_is_on_trial(tmp_path):
    registry = Registry(str(tmp_path), "a")
    plan = TrialPlan(version=2, mode="canary", share=0.05)
    registry.write(State(trial=plan), Change(what="on trial", version=2))
    assert find_trial(registry.address) == plan
    assert find_trial(None) is None
    assert read_state(open_place(registry.address)).trial == plan
