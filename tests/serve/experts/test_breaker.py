"""A breaker opens after failures in a row, lets one probe through, and closes on success."""

import pytest

from xmoe.serve.experts.breaker import Breaker, make_breakers


@pytest.fixture
def clock():
    """A list whose only entry is the time in seconds."""
    return [0.0]


@pytest.fixture
def breaker(clock):
    return Breaker(failures=3, open_s=10.0, clock=lambda: clock[0])


def test_opens_after_failures_in_a_row(breaker):
    for _ in range(2):
        breaker.fail()
    assert breaker.allows()
    breaker.fail()
    assert breaker.state == "open"
    assert not breaker.allows()


def test_success_between_failures_keeps_it_closed(breaker):
    for _ in range(5):
        breaker.fail()
        breaker.fail()
        breaker.succeed()
    assert breaker.state == "closed"


def test_one_probe_when_its_time_is_over(breaker, clock):
    for _ in range(3):
        breaker.fail()
    clock[0] = 10.0
    assert breaker.state == "half-open"
    assert [breaker.allows(), breaker.allows()] == [True, False]


def test_failed_probe_opens_it_again(breaker, clock):
    for _ in range(3):
        breaker.fail()
    clock[0] = 10.0
    assert breaker.allows()
    breaker.fail()
    assert breaker.state == "open"
    clock[0] = 20.0
    assert breaker.allows()
    breaker.succeed()
    assert breaker.state == "closed"


def test_lost_probe_does_not_shut_the_expert_out_for_ever(breaker, clock):
    for _ in range(3):
        breaker.fail()
    clock[0] = 10.0
    assert breaker.allows()
    clock[0] = 20.0
    assert breaker.allows()


@pytest.mark.parametrize(("experts", "most"), [(1, 0), (2, 1), (3, 1), (8, 4)])
def test_never_more_than_half_of_the_experts_are_shut_out(experts, most):
    breakers = make_breakers(map(str, range(experts)), failures=2, open_s=10.0)
    for _ in range(3):
        for breaker in breakers.values():
            breaker.fail()
    assert sum(breaker.state == "open" for breaker in breakers.values()) == most


def test_one_that_was_kept_closed_opens_when_another_closes(clock):
    breakers = make_breakers("ab", failures=2, open_s=10.0, clock=lambda: clock[0])
    for breaker in (*breakers.values(), *breakers.values()):
        breaker.fail()
    assert [breakers[name].state for name in "ab"] == ["open", "closed"]
    clock[0] = 10.0
    breakers["b"].fail()
    assert [breakers[name].state for name in "ab"] == ["half-open", "closed"]
    breakers["a"].succeed()
    breakers["b"].fail()
    assert [breakers[name].state for name in "ab"] == ["closed", "open"]
