"""A service that starts and stops without noise, and says who is ready."""

import io
import logging
import sys
import time
from contextlib import contextmanager

import pytest

from xmoe.serve.start import quiet


@pytest.fixture
def ray_logger(monkeypatch):
    """Ray's logger as Ray makes it: with a handler on what standard error was then."""
    logger, handler = logging.getLogger("ray"), logging.StreamHandler(io.StringIO())
    monkeypatch.setattr(logger, "handlers", [handler])
    monkeypatch.setattr(logger, "propagate", False)
    monkeypatch.setattr(logger, "level", logging.WARNING)  # a test before may have hushed it
    monkeypatch.setattr(logger, "_cache", {})  # of who may speak, by level
    return logger


@pytest.fixture
def noisy(ray_logger):
    @contextmanager
    def service():
        ray_logger.warning("a token is needed")
        print("started")
        try:
            yield "http://127.0.0.1:8000"
        finally:
            print("killed", file=sys.stderr)

    return service()


def test_the_noise_of_start_and_stop_goes_to_the_log(noisy, ray_logger, capsys):
    log = io.StringIO()
    with quiet.quietly(noisy, log, name="xmoe", say=print) as address:
        print("serving", address)
        ray_logger.warning("a replica is slow")
    assert capsys.readouterr() == ("serving http://127.0.0.1:8000\n", "")
    assert log.getvalue() == "a token is needed\nstarted\na replica is slow\nkilled\n"


def test_a_service_is_left_where_its_user_fails(noisy):
    log = io.StringIO()
    with pytest.raises(KeyError), quiet.quietly(noisy, log, name="xmoe", say=print):
        raise KeyError
    assert log.getvalue().endswith("killed\n")


def test_it_is_said_once_whenever_more_are_ready(monkeypatch):
    found, told = iter([(0, 0), (0, 3), (1, 3), (1, 3)]), []
    monkeypatch.setattr(quiet, "LOOK_EVERY_S", 0.01)
    monkeypatch.setattr(quiet, "count_ready", lambda name: next(found, (3, 3)))

    @contextmanager
    def slow():
        until = time.monotonic() + 10.0
        while len(told) < 3 and time.monotonic() < until:
            time.sleep(0.01)
        yield "address"

    with quiet.quietly(slow(), io.StringIO(), name="xmoe", say=told.append):
        assert told == [
            "ready    0 of 3 deployments", "ready    1 of 3 deployments",
            "ready    3 of 3 deployments",
        ]  # fmt: skip


def test_looking_starts_no_ray():
    import ray

    assert not ray.is_initialized()
    assert quiet.count_ready("xmoe") == (0, 0)
    assert not ray.is_initialized()
