"""Counts, rates and latencies of calls, of one router and of several together."""

import pytest

from xmoe.serve.telemetry.tally import RECENT_CALLS, Calls, Tally


@pytest.fixture
def now():
    return [1000.0]


@pytest.fixture
def tally(now):
    return Tally(clock=lambda: now[0])


def test_before_the_first_answer_there_is_no_latency(tally):
    tally.begin()
    count = tally.count
    assert (count.calls, count.ongoing) == (1, 1)
    assert count.mean_ms is None
    assert count.percentile_ms(95.0) is None


def test_failures_are_counted_by_kind_and_leave_latency_alone(tally):
    tally.note("ok", 0.010)
    for kind in ("dead", "dead", "timeout"):
        tally.note(kind, 5.0)
    count = tally.count
    assert count.failures == {"dead": 2, "timeout": 1}
    assert (count.calls, count.ongoing) == (4, 0)
    assert count.mean_ms == count.percentile_ms(95.0) == 10.0


def test_latency_is_that_of_the_last_calls(tally):
    for _ in range(10):
        tally.note("ok", 9.0)
    for number in range(RECENT_CALLS):
        tally.note("ok", 0.001 * number)
    assert tally.count.mean_ms == pytest.approx((RECENT_CALLS - 1) / 2)
    assert tally.count.percentile_ms(95.0) == pytest.approx(0.95 * (RECENT_CALLS - 1))


def test_the_rate_is_that_of_the_last_minute(tally, now):
    for _ in range(20):
        tally.note("ok", 0.01)
        now[0] += 0.5
    assert tally.count.per_s == pytest.approx(2.0)  # 20 calls in the 10 s of its life
    now[0] += 40.0
    assert tally.count.per_s == pytest.approx(20 / 50)
    now[0] += 60.0
    tally.note("ok", 0.01)
    assert tally.count.per_s == pytest.approx(1 / 60)
    assert tally.count.calls == 21


def test_routers_add_up():
    one = Calls(calls=3, ongoing=1, per_s=0.5, failures={"dead": 1}, recent_ms=(1.0, 2.0))
    other = Calls(calls=4, per_s=1.5, failures={"dead": 1, "timeout": 2}, recent_ms=(9.0,))
    both = one + other
    assert (both.calls, both.ongoing, both.per_s) == (7, 1, 2.0)
    assert both.failures == {"dead": 2, "timeout": 2}
    assert both.mean_ms == 4.0
    assert one + Calls() == one
