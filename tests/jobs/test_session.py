"""A Ray that runs is used and left alone; one that was started for a job is stopped after it."""

import os
import sys
import tempfile
from types import ModuleType

import pytest

from xmoe.jobs.session import ray_session, shorten_temp


@pytest.fixture
def fake_ray(monkeypatch):
    """A Ray that only notes what was asked of it."""
    fake = ModuleType("ray")
    fake.calls = []
    fake.running = False

    def init(**settings):
        fake.calls.append(("init", settings))
        fake.running = True

    def shutdown():
        fake.calls.append(("shutdown", {}))
        fake.running = False

    fake.init, fake.shutdown, fake.is_initialized = init, shutdown, lambda: fake.running
    monkeypatch.setitem(sys.modules, "ray", fake)
    return fake


def test_ray_is_started_without_a_dashboard_and_stopped(fake_ray):
    with ray_session():
        assert fake_ray.running
    (began, settings), (ended, _) = fake_ray.calls
    assert (began, ended) == ("init", "shutdown")
    assert settings["include_dashboard"] is False
    assert settings["log_to_driver"] is False


def test_running_ray_is_left_alone(fake_ray):
    fake_ray.running = True
    with ray_session():
        pass
    assert fake_ray.calls == []
    assert fake_ray.running


def test_ray_is_stopped_after_an_error(fake_ray):
    with pytest.raises(ValueError, match="inside"), ray_session():
        raise ValueError("inside")
    assert [name for name, _ in fake_ray.calls] == ["init", "shutdown"]


def test_sessions_inside_each_other_start_one_ray(fake_ray):
    with ray_session(), ray_session():
        pass
    assert [name for name, _ in fake_ray.calls] == ["init", "shutdown"]


@pytest.mark.parametrize(
    ("temp", "given", "wanted"),
    [("/tmp", None, None), ("/scratch" * 9, None, "/tmp"), ("/scratch" * 9, "/own", "/own")],
)
def test_sockets_of_ray_have_a_path_that_is_short_enough(monkeypatch, temp, given, wanted):
    monkeypatch.setattr(tempfile, "gettempdir", lambda: temp)
    monkeypatch.setenv("RAY_TMPDIR", given or "")
    if given is None:
        monkeypatch.delenv("RAY_TMPDIR")
    shorten_temp()
    assert os.environ.get("RAY_TMPDIR") == wanted


def test_workers_are_told_whom_the_user_trusts(fake_ray, monkeypatch):
    monkeypatch.setenv("XMOE_TRUST", "net")
    with ray_session():
        pass
    assert fake_ray.calls[0][1]["runtime_env"] == {"env_vars": {"XMOE_TRUST": "net"}}
