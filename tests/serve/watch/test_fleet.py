"""What several routers tell adds up; those that are dead, hang or are of another run do not."""

import asyncio
import time

import pytest

from xmoe.serve.telemetry.tally import Calls
from xmoe.serve.watch.drift import DriftCount
from xmoe.serve.watch.fleet import Fleet, Reports, RouterReport, Siblings, gather_reports


def report_of(replica, *, weights="new", breaker="closed", calls=1, **more):
    return RouterReport(
        replica=replica,
        weights_sha256=weights,
        waiting_segments=2,
        experts={"low": Calls(calls=calls, failures={"dead": 1}, recent_ms=(float(calls),))},
        breakers={"low": breaker},
        **more,
    )


def reports_with(found):
    async def ask():
        if isinstance(found, Exception):
            raise found
        return found

    fleet = Fleet(lambda: report_of("a", calls=10), Siblings("a", "xmoe", ask))
    return asyncio.run(fleet.reports())


def test_all_routers_are_summed_and_the_own_one_is_counted_once():
    reports = reports_with([report_of("a", calls=9), report_of("b", breaker="open", calls=5)])
    calls = reports.calls_to("low")
    assert (calls.calls, calls.failures, calls.mean_ms) == (15, {"dead": 2}, 7.5)
    assert reports.breakers_of("low") == {"open": 1, "closed": 1}
    assert next(iter(reports.breakers_of("low"))) == "open"
    assert reports.waiting_segments == 4
    assert reports.spoken == {"routers": 2, "silent_routers": 0, "other_routers": 0}


def test_the_silent_and_those_of_other_weights_are_counted_apart():
    reports = reports_with([report_of("b"), None, report_of("c", weights="old"), None])
    assert [one.replica for one in reports.routers] == ["a", "b"]
    assert reports.spoken == {"routers": 2, "silent_routers": 2, "other_routers": 1}
    assert reports.others == {"old": 1}


def test_where_nobody_can_be_asked_the_own_router_answers_and_says_so():
    reports = reports_with(ConnectionError())
    assert reports.calls_to("low").calls == 10
    assert reports.spoken == {"routers": 1, "silent_routers": None, "other_routers": 0}


def test_one_that_asks_forever_holds_nobody_up(monkeypatch):
    monkeypatch.setattr("xmoe.serve.watch.fleet.WITHIN_S", 0.05)

    async def ask():
        await asyncio.sleep(3600)

    began = time.monotonic()
    reports = asyncio.run(Fleet(lambda: report_of("a"), Siblings("a", "xmoe", ask)).reports())
    assert reports.silent is None
    assert time.monotonic() - began < 2.0


def test_without_siblings_the_own_router_is_all_there_is():
    reports = asyncio.run(Fleet(lambda: report_of("a"), None).reports())
    assert reports.spoken == {"routers": 1, "silent_routers": 0, "other_routers": 0}


def test_reports_that_do_not_come_in_time_are_left_out():
    async def tells():
        return report_of("b", asked={2: 3}).model_dump(mode="json")

    async def hangs():
        await asyncio.sleep(3600)

    async def is_dead():
        raise ConnectionError

    async def is_cancelled():
        raise asyncio.CancelledError

    async def is_of_another_version():
        return {"replica": "f", "unheard_of": 1}

    calls = (hangs, tells, is_dead, is_cancelled, is_of_another_version)
    began = time.monotonic()
    found = asyncio.run(gather_reports((call() for call in calls), within_s=0.2))
    assert time.monotonic() - began < 2.0
    assert found == [None, report_of("b", asked={2: 3}), None, None, None]


@pytest.mark.parametrize(("watching", "recordings"), [(0, None), (1, 3), (2, 6)])
def test_drift_is_that_of_those_who_watch(watching, recordings):
    heard = DriftCount(recordings=3, quality=1.5, counts={"rms_db": (1, 2)})
    counts = [heard] * watching + [None] * (2 - watching)
    routers = tuple(report_of(str(i), drift=count) for i, count in enumerate(counts))
    found = Reports(routers).drift
    assert (None if found is None else found.recordings) == recordings
