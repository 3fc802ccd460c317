"""How segments of requests are put together: by rows, by bytes of sound, by what experts cost."""

import asyncio

import pytest
import torch

from tests.fixtures.closed_runs import NAMES, write_closed_run
from tests.fixtures.runs import RATE_HZ, make_sound
from xmoe.audio.segment import Segment
from xmoe.mixture.promise_router import PromiseRouter
from xmoe.serve.router.limits import Limits
from xmoe.serve.router.router import Job, join_jobs, load_router
from xmoe.serve.schemas import Options
from xmoe.serve.settings import ServeSettings

ROW_BYTES = 2 * round(0.4 * RATE_HZ)


def make_job(predictor, samples, rate_hz):
    segments = [Segment(samples, rate_hz, 0)]
    power = torch.zeros(1, 16, 41)
    return Job(power, torch.tensor([41]), predictor.sound_of(segments), Limits(), 0.0)


def test_a_router_has_stem_and_router_of_the_run_and_no_expert(closed_run, closed_in_process):
    predictor = load_router(ServeSettings(run=str(closed_run)))
    assert isinstance(predictor.model.router, PromiseRouter)
    assert len(predictor.model.experts) == 0
    for name, value in closed_in_process.model.router.state_dict().items():
        assert torch.equal(predictor.model.router.state_dict()[name], value)
    specs, sound = closed_in_process.hear(make_sound(1.0), RATE_HZ)
    routing = predictor.config.routing
    own = predictor.model.prepare(specs, routing, sound=sound)[0]
    assert torch.equal(own.stem_logits, closed_in_process.model.plan(specs, routing).stem_logits)


def test_sound_counts_against_the_bytes_of_a_call(serve_run, closed_run):
    service = serve_run(run=closed_run, router={"max_call_bytes": 3 * ROW_BYTES})
    router = service.router
    assert router.max_rows == 32
    assert router.rows_together(router.cut(make_sound(4.0), RATE_HZ)) == 3
    assert router.rows_together(router.cut(make_sound(4.0), 2 * RATE_HZ)) == 1
    short, long = (make_job(router.predictor, make_sound(0.4), hz) for hz in (RATE_HZ, 2 * RATE_HZ))
    longer = make_job(router.predictor, make_sound(0.8), 2 * RATE_HZ)
    assert short.sound.samples.shape == long.sound.samples.shape
    assert router._fit([short, long, short])
    assert not router._fit([short, longer])


def test_sounds_of_jobs_lie_side_by_side(closed_in_process):
    jobs = [
        make_job(closed_in_process, make_sound(0.4, seed=1), RATE_HZ),
        make_job(closed_in_process, make_sound(0.2, seed=2), 11_025),
    ]
    power, valid, sound = join_jobs(jobs)
    assert (len(power), len(valid), len(sound)) == (2, 2, 2)
    for row, job in enumerate(jobs):
        (samples, rate), (own, own_rate) = sound.read(row), job.sound.read(0)
        assert rate == own_rate
        assert (samples == own).all()


def test_a_block_is_small_where_its_experts_take_long(serve_run, tmp_path):
    run = write_closed_run(tmp_path / "run", costs_ms=(10.0, 40.0, 50.0))
    assert serve_run(run=run).router.max_rows == 4  # 2 s, a fifth of it, 100 ms each
    dear = write_closed_run(tmp_path / "dear", costs_ms=(1e3, 1e3, 1e3))
    assert serve_run(run=dear).router.max_rows == 1


def test_readiness_asks_every_expert_for_sound(serve_run, closed_run):
    service = serve_run(run=closed_run)
    assert asyncio.run(service.router.check_experts()) == dict.fromkeys(NAMES, "ok")


@pytest.mark.parametrize("max_call_bytes", [3 << 20, 2 * ROW_BYTES])
def test_parts_of_a_long_recording_are_answered_as_one(
    serve_run, closed_run, closed_in_process, max_call_bytes
):
    service = serve_run(run=closed_run, router={"max_call_bytes": max_call_bytes})
    samples = make_sound(5.3, seed=2)
    found = asyncio.run(service.classify_samples(samples, RATE_HZ, Options(deadline_ms=2e4)))
    expected = closed_in_process.predict(samples, RATE_HZ)
    assert found.probabilities == pytest.approx(expected.probabilities, abs=1e-5)
    assert (found.k, found.segments) == (expected.k, expected.segments)


def test_a_whole_segment_is_sent_as_it_is(closed_in_process):
    predictor = closed_in_process
    specs, sound = predictor.hear(make_sound(1.0), RATE_HZ)
    plan, inputs = predictor.model.prepare(specs, predictor.config.routing, sound=sound, k=1)
    (request,) = predictor.model.requests(plan, inputs)
    assert request.payload["samples"].data_ptr() == sound.samples.data_ptr()
    part = predictor.model.requests(plan.with_counts(torch.tensor([0, 1, 0, 1])), inputs)[0]
    assert torch.equal(part.payload["samples"], sound.samples[[1, 3]])
    whole, own = (predictor.experts["first"](one) for one in (request, part))
    assert torch.allclose(own, whole[[1, 3]], atol=1e-6)
