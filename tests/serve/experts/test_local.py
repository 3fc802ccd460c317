"""Experts in the router's process: sound is heard in threads, several at once, with one answer."""

import asyncio
import threading

import pytest
import torch

from tests.fixtures.runs import RATE_HZ, make_sound
from xmoe.serve.experts.local import LocalExperts
from xmoe.serve.settings import ServeSettings


@pytest.fixture(scope="module")
def requests(closed_in_process):
    """Requests to every expert of the run, for several recordings."""
    model, routing = closed_in_process.model, closed_in_process.config.routing
    made = []
    for seed in range(6):
        specs, sound = closed_in_process.hear(make_sound(0.8, seed=seed), RATE_HZ)
        made += model.requests(*model.prepare(specs, routing, sound=sound, k=3))
    return made


def test_calls_of_sound_never_hold_the_event_loop_and_agree(
    closed_run, closed_in_process, requests
):
    settings = ServeSettings(run=str(closed_run), topology="colocated")
    experts = LocalExperts.load(settings, closed_in_process.config)
    inside = threading.current_thread()
    for core in experts._cores.values():
        infer = core.infer

        def note(payload, infer=infer):
            assert threading.current_thread() is not inside
            return infer(payload)

        core.infer = note

    async def ask_all():
        return await asyncio.gather(*(experts.call(request, 5.0) for request in requests))

    for said, request in zip(asyncio.run(ask_all()), requests, strict=True):
        expected = closed_in_process.experts[request.name](request)
        assert torch.allclose(said, expected, atol=1e-6)
