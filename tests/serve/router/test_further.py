"""Two rounds over the fan-out: the answers of one process, whatever becomes of either round."""

import asyncio
import time

import numpy as np
import pytest

from tests.fixtures.closed_runs import NAMES, write_backbone_run, write_closed_run
from tests.fixtures.runs import RATE_HZ, make_sound
from xmoe.audio.resample import resample
from xmoe.mixture.calls import CallFailed
from xmoe.predict.predictor import Predictor
from xmoe.serve.schemas import Options

NONE = Options(deadline_ms=20_000.0)


def make_clips():
    """Recordings at several rates, of one segment or several: samples and rate in Hz."""
    rates_hz = (RATE_HZ, 11_025, 16_000, 4000)
    clips = []
    for seed in range(12):
        rate_hz = rates_hz[seed % 4]
        samples = make_sound(0.3 + 0.31 * (seed % 3), seed=seed)
        clips.append((resample(samples, from_hz=RATE_HZ, to_hz=rate_hz), rate_hz))
    return clips


CLIPS = make_clips()


class Calls:
    """Callers that count their calls and rows; some experts fail, or take their time."""

    def __init__(self, service, *, fails=(), failure="error", slow_s=None):
        self._callers = dict(service.router.fanout.callers)
        self._fails, self._failure, self._slow_s = set(fails), failure, slow_s or {}
        self.rows = {name: [] for name in self._callers}
        service.router.fanout.callers.update(dict.fromkeys(self._callers, self.call))

    async def call(self, request, budget_s):
        self.rows[request.name].append(len(request.rows))
        await asyncio.sleep(self._slow_s.get(request.name, 0.0))
        if request.name in self._fails:
            raise CallFailed(self._failure)
        return await self._callers[request.name](request, budget_s)


def classify(service, clips=CLIPS, options=NONE):
    """Answers to clips that are asked for at once."""

    async def main():
        jobs = (service.classify_samples(*clip, options) for clip in clips)
        return await asyncio.gather(*jobs)

    return asyncio.run(main())


def assert_alike(served, expected):
    assert served.probabilities == pytest.approx(expected.probabilities, abs=1e-5)
    assert served.k == expected.k
    assert served.missing_experts == expected.missing_experts
    for one, other in zip(served.experts, expected.experts, strict=True):
        assert (one.name, one.share) == (other.name, other.share)
        assert one.weight == pytest.approx(other.weight, abs=1e-5)


def find_doubtful(predictor):
    """The first clip of one segment that asks further, and how many it asks at first."""
    for clip in CLIPS:
        specs, sound = predictor.hear(*clip)
        first = predictor.model.prepare(specs, predictor.config.routing, sound=sound)[0].k
        last = predictor.answer_segments(specs, sound).k
        if len(specs) == 1 and bool((last > first).all()):
            return clip, int(first[0])
    raise AssertionError("no clip asks further")


def test_recordings_of_any_rate_and_length_are_answered_as_in_one_process(
    serve_run, closed_run, closed_in_process
):
    for max_rows in (32, 3):
        service = serve_run(run=closed_run, router={"max_rows": max_rows})
        answers = classify(service)
        for served, clip in zip(answers, CLIPS, strict=True):
            assert_alike(served, closed_in_process.predict(*clip))
        assert 0 < np.mean([answer.k for answer in answers]) < len(NAMES)


def test_a_block_asks_each_expert_once_more_at_most(serve_run, closed_run, monkeypatch):
    service = serve_run(run=closed_run)
    blocks, calls = [], Calls(service)
    monkeypatch.setattr(service.meter, "note_block", blocks.append)
    classify(service)
    assert len(blocks) == 1
    assert len(calls.rows["first"]) == len(calls.rows["third"]) == 1
    assert len(calls.rows["second"]) == 2
    assert sum(calls.rows["second"]) >= calls.rows["third"][0] > calls.rows["second"][1] > 1


def test_who_asks_no_further_waits_for_nobody(serve_run, closed_run, closed_in_process):
    service = serve_run(run=closed_run)
    calls = Calls(service, slow_s={"third": 5.0})
    sure = [c for c in CLIPS if closed_in_process.predict(*c).k < 2]
    began = time.monotonic()
    for answer in classify(service, sure[:1]):
        assert answer.k < len(NAMES)
    assert time.monotonic() - began < 4.0
    assert calls.rows["third"] == []


@pytest.mark.parametrize("how", ["fails", "hangs"])
@pytest.mark.parametrize("kind", ["closed", "backbone"])
def test_an_expert_lost_in_the_second_round_leaves_the_others(serve_run, request, kind, how):
    service = serve_run(run=request.getfixturevalue(f"{kind}_run"))
    lost = {"fails": ("third",)} if how == "fails" else {"slow_s": {"third": 30.0}}
    Calls(service, **lost)
    clip, _ = find_doubtful(request.getfixturevalue(f"{kind}_in_process"))
    began = time.monotonic()
    (answer,) = classify(service, [clip], Options(deadline_ms=1500.0))
    assert time.monotonic() - began < 2.5
    assert answer.degraded
    assert answer.missing_experts == ("third",)
    assert answer.k == len(NAMES)
    assert {use.name for use in answer.experts} == {"first", "second"}


@pytest.mark.parametrize("how", ["dies", "hangs", "says nan"])
def test_without_its_network_a_mixture_answers_as_the_rest_of_it(serve_run, tmp_path, how):
    run = write_backbone_run(tmp_path / "run", fault="silence", k_price=-1000.0)
    rest = Predictor.load(run)
    del rest.experts["third"]
    service = serve_run(run=run, faults={"breaker_failures": len(CLIPS) + 1})
    clips, options = CLIPS, NONE
    if how == "dies":
        Calls(service, fails=("third",), failure="dead")
    elif how == "hangs":
        Calls(service, slow_s={"third": 30.0})
        options = Options(deadline_ms=3000.0)
    else:
        clips = [(0.0 * samples, rate_hz) for samples, rate_hz in CLIPS]
    for served, clip in zip(classify(service, clips, options), clips, strict=True):
        assert_alike(served, rest.predict(*clip))
        assert served.missing_experts == ("third",)
        assert served.k == len(NAMES)


def test_a_network_that_says_nan_is_left_out_and_then_shut_out(serve_run, tmp_path):
    run = write_backbone_run(tmp_path / "run", fault="silence", k_price=-1000.0)
    service = serve_run(run=run, faults={"breaker_failures": 3})
    silence = (np.zeros(RATE_HZ // 2, np.float32), RATE_HZ)
    for _ in range(3):
        (answer,) = classify(service, [silence])
        assert answer.degraded
        assert answer.missing_experts == ("third",)
        assert {use.name for use in answer.experts} == {"first", "second"}
        assert sum(answer.probabilities.values()) == pytest.approx(1.0)
    assert service.router.fanout.shut_out() == {"third"}


def test_an_expert_lost_in_the_first_round_is_replaced_and_more_are_asked(
    serve_run, closed_run, closed_in_process
):
    service = serve_run(run=closed_run)
    calls = Calls(service, fails=("first",))
    clip, _ = find_doubtful(closed_in_process)
    for _ in range(8):  # the breaker opens on the way
        (answer,) = classify(service, [clip], Options(k_max=2, deadline_ms=20_000.0))
        assert answer.missing_experts == ("first",)
        assert answer.k >= 1
        assert "first" not in {use.name for use in answer.experts}
    assert service.router.fanout.shut_out() == {"first"}
    assert len(calls.rows["first"]) < 8 * 2


def test_no_second_round_where_the_first_took_its_time(serve_run, closed_run, closed_in_process):
    clip, first = find_doubtful(closed_in_process)
    service = serve_run(run=closed_run, faults={"min_gate_mass": 0.0})
    calls = Calls(service, slow_s={"first": 1.4})
    (answer,) = classify(service, [clip], Options(deadline_ms=2000.0))
    assert answer.k == first
    assert calls.rows["third"] == []
    assert not answer.degraded


def test_no_second_round_that_costs_more_than_is_left(serve_run, closed_in_process, tmp_path):
    run = write_closed_run(tmp_path / "dear", costs_ms=(1.0, 2.0, 5000.0), k_price=0.0)
    service = serve_run(run=run)
    clip, _ = find_doubtful(closed_in_process)
    (short,) = classify(service, [clip], Options(deadline_ms=2000.0))
    (long,) = classify(service, [clip], Options(deadline_ms=20_000.0))
    assert short.k < long.k == len(NAMES)


def test_limits_bound_both_rounds(serve_run, closed_run, closed_in_process):
    service = serve_run(run=closed_run)
    for k_max in range(len(NAMES) + 1):
        for served, clip in zip(
            classify(service, options=Options(k_max=k_max, deadline_ms=20_000.0)),
            CLIPS,
            strict=True,
        ):
            assert_alike(served, closed_in_process.predict(*clip, k_max=k_max))
            assert served.k <= k_max
    costs_ms = (0.0, *np.cumsum(closed_in_process.config.routing.costs_ms))
    for budget, most, cost in (
        (1.0, 1.0, (0.0, 1.0, 2.0, 3.0)),
        ("latency", 0.5, (0.0, 1.0, 2.0, 3.0)),
        ("3.5ms", 3.0, costs_ms),
        ("0.1ms", 0.0, costs_ms),
    ):
        for served in classify(service, options=Options(budget=budget, deadline_ms=20_000.0)):
            spent = [cost[window.k] for window in served.windows] or [cost[round(served.k)]]
            assert np.mean(spent) <= most + 1e-9


def test_accuracy_is_the_price_of_a_run_that_was_trained_for_it(serve_run, closed_run):
    service = serve_run(run=closed_run)
    usual = classify(service)
    asked = classify(service, options=Options(budget="accuracy", deadline_ms=20_000.0))
    assert [answer.probabilities for answer in usual] == [answer.probabilities for answer in asked]


def test_one_round_where_experts_are_asked_without_a_promise(serve_run, tmp_path):
    run = write_closed_run(tmp_path / "run", k_price=-1000.0)
    service, expected = serve_run(run=run), Predictor.load(run)
    calls = Calls(service)
    for served, clip in zip(classify(service), CLIPS, strict=True):
        assert served.k == len(NAMES)
        assert_alike(served, expected.predict(*clip))
    assert [len(rows) for rows in calls.rows.values()] == [1, 1, 1]


def test_a_round_that_was_begun_leaves_nothing_behind(serve_run, closed_run):
    service = serve_run(run=closed_run)
    classify(service)
    assert service.router.further._open == {}


def test_a_row_that_asks_later_begins_another_round(serve_run, closed_run, closed_in_process):
    service = serve_run(run=closed_run)
    calls = Calls(service, slow_s={"second": 0.2})
    clips = [clip for clip in CLIPS if closed_in_process.predict(*clip).k > 0]
    answers = classify(service, clips)
    for served, clip in zip(answers, clips, strict=True):
        assert_alike(served, closed_in_process.predict(*clip))
    assert len(calls.rows["third"]) <= 2
