"""Counts and latencies of the calls to one expert."""

import pytest

from xmoe.serve.tally import RECENT_CALLS, Tally


@pytest.fixture
def tally():
    return Tally()


def add(tally, outcome, seconds):
    tally.begin()
    tally.end(outcome, seconds)


def test_before_the_first_answer_there_is_no_latency(tally):
    tally.begin()
    assert (tally.calls, tally.ongoing) == (1, 1)
    assert tally.mean_ms is None
    assert tally.p95_ms is None


def test_failures_are_counted_by_kind_and_leave_latency_alone(tally):
    add(tally, "ok", 0.010)
    for kind in ("dead", "dead", "timeout"):
        add(tally, kind, 5.0)
    assert tally.failures == {"dead": 2, "timeout": 1}
    assert (tally.calls, tally.ongoing) == (4, 0)
    assert tally.mean_ms == tally.p95_ms == 10.0


def test_latency_is_that_of_the_last_calls(tally):
    for _ in range(10):
        add(tally, "ok", 9.0)
    for number in range(RECENT_CALLS):
        add(tally, "ok", 0.001 * number)
    assert tally.mean_ms == pytest.approx((RECENT_CALLS - 1) / 2)
    assert tally.p95_ms == pytest.approx(0.95 * (RECENT_CALLS - 1))
