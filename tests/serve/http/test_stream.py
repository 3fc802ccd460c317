"""Streams: the answers of classify at exact samples, for any pieces; clear ends; nothing hangs."""

import asyncio
import json
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
import ray
import requests
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect
from websockets.sync.client import connect

from tests.serve.conftest import slow_on_ray
from xmoe.serve.guard.tokens import Allowance, single
from xmoe.serve.http.api import NOBODY, build_app
from xmoe.serve.router.batching import QueueFull
from xmoe.serve.settings import HttpSettings, ServeSettings
from xmoe.serve.start import haproxy
from xmoe.serve.start.session import serving

RATE_HZ = 8000
WINDOW = 3200
TOKEN, OTHER = "0123456789abcdef0123", "3210fedcba9876543210"
START = {"sample_rate_hz": RATE_HZ, "encoding": "pcm_f32le", "hop_s": 0.2}


@pytest.fixture
def serve_streams(serve_run):
    """The function that makes an application and returns what opens streams to it."""
    clients = []

    def serve(*, tokens=NOBODY, service=None, **http):
        service = service or serve_run(http=HttpSettings(**http))
        clients.append(TestClient(build_app(service, tokens=tokens)))
        return partial(clients[-1].websocket_connect, "ws://localhost/v1/stream")

    yield serve
    for client in clients:
        client.close()


@pytest.fixture
def open_stream(serve_streams):
    """The function that opens a stream to an application of its own."""

    def connect(*, token=None, headers=None, **served):
        return serve_streams(tokens=single(token), **served)(headers=headers or {})

    return connect


def talk(socket, start, pieces):
    """Send a whole stream; return the frames up to its end."""
    socket.send_json(start)
    frames = [socket.receive_json()]
    for piece in pieces:
        socket.send_bytes(piece)
    socket.send_json({"type": "end"})
    while frames[-1]["type"] not in ("done", "error"):
        frames.append(socket.receive_json())
    return frames


def refused(socket):
    """The error frame and the code that the socket was closed with."""
    frame = socket.receive_json()
    while frame["type"] != "error":
        frame = socket.receive_json()
    with pytest.raises(WebSocketDisconnect) as caught:
        socket.receive_json()
    assert frame["message"]
    assert frame["hint"]
    return frame["code"], caught.value.code


@pytest.mark.parametrize("size", [1, 999, 6400, 100_000])
def test_answers_are_those_of_classify_whatever_the_pieces(open_stream, ask, wav, sound, size):
    samples = sound(1.05)
    raw = samples.tobytes()
    step = size if size > 1 else 1371
    pieces = [raw[i : i + step] for i in range(0, len(raw), step)]
    with open_stream() as socket:
        frames = talk(socket, START, pieces)
    ready, *answers, done = frames
    assert (ready["window_samples"], ready["hop_samples"]) == (WINDOW, 1600)
    assert done["samples"] == len(samples)
    starts = [0, 1600, 3200, 4800, len(samples) - WINDOW]
    assert [a["start_sample"] for a in answers] == starts
    for index, (start, answer) in enumerate(zip(starts, answers, strict=True)):
        assert (answer["type"], answer["index"]) == ("answer", index)
        assert answer["end_s"] == (start + WINDOW) / RATE_HZ
        same = ask("POST", "/v1/classify", body=wav(samples[start : start + WINDOW])).json()
        for field in ("label", "k", "uncertain", "warnings", "degraded"):
            assert answer[field] == same[field]
        assert answer["probabilities"] == pytest.approx(same["probabilities"], abs=1e-5)


def test_sixteen_bit_at_another_rate(open_stream, ask, wav, sound):
    samples = (sound(0.9) * 32767).astype("<i2")
    with open_stream() as socket:
        start = {"sample_rate_hz": 16000, "encoding": "pcm_s16le", "k_max": 1}
        frames = talk(socket, start, [samples.tobytes()])
    answers = frames[1:-1]
    assert [a["start_s"] for a in answers] == [0.0, 0.05]
    part = samples[:6400]
    same = ask("POST", "/v1/classify", body=wav(part, 16000, "PCM_16"), query="k_max=1").json()
    assert answers[0]["k"] == same["k"] == 1.0
    assert answers[0]["probabilities"] == pytest.approx(same["probabilities"], abs=1e-5)


def test_windows_are_heard_by_experts_that_hear_sound(
    open_stream, serve_run, closed_run, closed_in_process, sound
):
    service = serve_run(run=closed_run, faults={"deadline_ms": 20_000.0})
    samples = sound(1.7, seed=2)
    with open_stream(service=service) as socket:
        frames = talk(socket, START | {"budget": "accuracy"}, [samples.tobytes()])
    answers = [frame for frame in frames if frame["type"] == "answer"]
    assert len(answers) == 8
    for frame in answers:
        window = samples[frame["start_sample"] : frame["end_sample"]]
        expected = closed_in_process.predict(window, RATE_HZ)
        assert frame["probabilities"] == pytest.approx(expected.probabilities, abs=1e-5)
        assert frame["k"] == expected.k


def test_budget_that_the_run_cannot_keep_is_refused_at_once(open_stream):
    with open_stream() as socket:
        socket.send_json(START | {"budget": "20ms"})
        assert refused(socket)[0] == "bad_input"


def test_a_short_stream_is_one_window(open_stream, sound):
    with open_stream() as socket:
        frames = talk(socket, START, [sound(0.1).tobytes()])
    assert [f["type"] for f in frames] == ["ready", "answer", "done"]
    assert (frames[1]["start_s"], frames[1]["end_s"]) == (0.0, 0.1)


def test_nothing_sent_nothing_answered(open_stream):
    with open_stream() as socket:
        assert [f["type"] for f in talk(socket, START, [])] == ["ready", "done"]


@pytest.mark.parametrize(
    ("first", "code"),
    [
        ("{", "bad_start"),
        ("[]", "bad_start"),
        (json.dumps(START | {"encoding": "mp3"}), "bad_start"),
        (json.dumps(START | {"sample_rate_hz": 1}), "bad_start"),
        (json.dumps(START | {"hop_s": 0}), "bad_start"),
        (json.dumps(START | {"more": 1}), "bad_start"),
    ],
)
def test_first_message_that_will_not_do(open_stream, first, code):
    with open_stream() as socket:
        socket.send_text(first)
        assert refused(socket) == (code, 1007)


def test_pcm_first_is_refused(open_stream):
    with open_stream() as socket:
        socket.send_bytes(b"\0" * 100)
        assert refused(socket) == ("bad_start", 1007)


@pytest.mark.parametrize("text", ["", "more", '{"type": "stop"}', "[1]"])
def test_text_that_is_not_the_end(open_stream, text):
    with open_stream() as socket:
        socket.send_json(START)
        socket.send_text(text)
        assert refused(socket) == ("bad_message", 1007)


def test_samples_that_are_not_finite(open_stream):
    with open_stream() as socket:
        socket.send_json(START)
        socket.send_bytes(np.full(WINDOW, np.nan, "<f4").tobytes())
        assert refused(socket) == ("bad_input", 1007)


def test_silent_client_is_given_up(open_stream):
    with open_stream(body_timeout_s=0.1) as socket:
        assert refused(socket) == ("idle", 1008)
    with open_stream(idle_timeout_s=0.1) as socket:
        socket.send_json(START)
        assert refused(socket) == ("idle", 1008)


def test_stream_does_not_last_for_ever(open_stream):
    with open_stream(max_stream_s=0.2) as socket:
        socket.send_json(START)
        assert refused(socket) == ("stream_over", 1013)


def test_client_that_does_not_wait_is_refused(open_stream, serve_run):
    async def slow(request, budget_s):
        await asyncio.sleep(min(budget_s, 1.0))
        raise TimeoutError

    http = HttpSettings(max_ahead_s=0.1)
    service = serve_run(dict.fromkeys(("broadband", "low", "transient"), slow), http=http)
    with open_stream(service=service) as socket:
        socket.send_json(START)
        most = socket.receive_json()["max_ahead_samples"]
        assert most == WINDOW + 1600
        socket.send_bytes(b"\0" * 4 * (most + WINDOW + 1600 * 4))
        socket.send_bytes(b"\0" * 4 * most)
        assert refused(socket) == ("too_fast", 1013)


def test_window_without_an_answer_does_not_end_the_stream(open_stream, serve_run, sound):
    service = serve_run()
    classify, calls = service.classify_samples, []

    async def full_at_first(*args):
        calls.append(args)
        if len(calls) == 1:
            raise QueueFull
        return await classify(*args)

    service.classify_samples = full_at_first
    with open_stream(service=service) as socket:
        frames = talk(socket, START, [sound(0.8).tobytes()])
    assert [f["type"] for f in frames] == ["ready", "problem", "answer", "answer", "done"]
    assert (frames[1]["code"], frames[1]["start_s"]) == ("overloaded", 0.0)


def test_defect_of_ours_tells_nothing_of_itself(open_stream, serve_run, sound):
    service = serve_run()

    async def broken(*_):
        raise KeyError("a secret of this machine")

    service.classify_samples = broken
    with open_stream(service=service) as socket:
        socket.send_json(START)
        socket.send_bytes(sound().tobytes())
        assert refused(socket) == ("internal", 1011)


def test_client_that_leaves_frees_its_place(serve_streams):
    connect = serve_streams(max_streams=1)
    for _ in range(2):
        with connect() as socket:
            socket.send_json(START)
            assert socket.receive_json()["type"] == "ready"
            with connect() as other:
                assert refused(other) == ("overloaded", 1013)
        time.sleep(0.05)


def test_who_has_not_begun_takes_no_place(serve_streams):
    connect, start = serve_streams(tokens=single(TOKEN), max_streams=1), START | {"token": TOKEN}
    with connect() as silent, connect() as socket:
        socket.send_json(start)
        assert socket.receive_json()["type"] == "ready"
        silent.send_json(start)
        assert refused(silent) == ("overloaded", 1013)


@slow_on_ray
@pytest.mark.parametrize("ingress", ["python", "auto"])
def test_a_served_run_streams_in_real_time_past_the_limit_of_requests(
    tiny_run, wav, sound, ingress
):
    samples = sound(36.0)
    settings = ServeSettings(run=str(tiny_run), topology="colocated")
    (port,) = haproxy.free_ports(1)
    with serving(settings, host="127.0.0.1", port=port, ingress=ingress) as url:
        frames = stream_paced(f"{url.replace('http', 'ws')}/v1/stream", samples)
        part = samples[16000 : 16000 + WINDOW]
        same = requests.post(f"{url}/v1/classify", data=wav(part), timeout=30).json()
    assert [frame["type"] for frame in frames] == ["ready", *["answer"] * 73, "done"]
    assert frames[-1]["samples"] == len(samples)
    assert frames[5]["start_sample"] == 16000
    assert frames[5]["probabilities"] == pytest.approx(same["probabilities"], abs=1e-5)


@slow_on_ray
@pytest.mark.skipif(not haproxy.is_there(), reason="HAProxy did not come with Ray")
def test_streams_outlive_the_death_of_another_router(tiny_run, sound):
    """HAProxy starts anew when routers change; the one before goes on with its streams."""
    settings, samples = ServeSettings(run=str(tiny_run), topology="colocated"), sound(36.0)
    (port,) = haproxy.free_ports(1)
    with serving(settings, host="127.0.0.1", port=port, ingress="haproxy") as url:
        ask = partial(stream_paced, f"{url.replace('http', 'ws')}/v1/stream", samples)
        routers = wait_for_routers(2)
        with ThreadPoolExecutor(6) as pool:
            streams = [pool.submit(ask) for _ in range(6)]
            time.sleep(3.0)
            ray.kill(ray.get_actor(routers[0], namespace="serve"))
            time.sleep(3.0)
            lost = [stream for stream in streams if stream.done()]  # those of the dead one
            frames = [stream.result() for stream in streams if stream not in lost]
    assert frames
    assert all(one[-1] == frames[0][-1] for one in frames)
    assert (frames[0][-1]["type"], frames[0][-1]["samples"]) == ("done", len(samples))


def wait_for_routers(count):
    for _ in range(100):
        actors = [one["name"] for one in ray.util.list_named_actors(all_namespaces=True)]
        found = sorted(name for name in actors if "REPLICA" in name and "#router#" in name)
        if len(found) == count:
            return found
        time.sleep(0.1)
    raise AssertionError(f"{found} in place of {count} routers")


def stream_paced(url, samples, seconds_at_once=0.5):
    """Stream samples as a microphone would; return all frames."""
    step = round(seconds_at_once * RATE_HZ)
    with connect(url) as wire:
        wire.send(json.dumps(START | {"hop_s": 0.5}))
        for first in range(0, len(samples), step):
            wire.send(samples[first : first + step].tobytes())
            time.sleep(seconds_at_once)
        wire.send(json.dumps({"type": "end"}))
        return [json.loads(frame) for frame in wire]


@pytest.mark.parametrize("token", [None, "wrong"])
def test_token_is_asked(open_stream, token):
    with open_stream(token=TOKEN) as socket:
        socket.send_json(START | {"token": token})
        assert refused(socket) == ("unauthorised", 1008)


def test_a_right_token_is_told_what_it_lacks(serve_streams):
    slow = Allowance(token=TOKEN, requests_per_s=0.01)
    explains = Allowance(token=OTHER, scopes={"explain"})
    connect = serve_streams(tokens={"slow": slow, "explains": explains})
    with connect() as socket:
        assert talk(socket, START | {"token": TOKEN}, [])[-1]["type"] == "done"
    with connect() as socket:
        socket.send_json(START | {"token": TOKEN})
        assert refused(socket) == ("quota", 1013)
    with connect() as socket:
        socket.send_json(START | {"token": OTHER})
        frame = socket.receive_json()
    assert (frame["code"], frame["hint"]) == ("no_scope", "use a token with the scope ask")


def test_sound_of_a_stream_waits_until_it_is_paid_for(serve_streams, sound):
    connect = serve_streams(tokens={"slow": Allowance(token=TOKEN, audio_s_per_s=0.5)})
    began = time.monotonic()
    with connect() as socket:
        frames = talk(socket, START | {"token": TOKEN}, [sound(1.05).tobytes()])
    assert [frame["type"] for frame in frames] == ["ready", *["answer"] * 5, "done"]
    assert time.monotonic() - began >= 1.2  # four windows of 0.4 s, of which 1 s may come at once


def test_token_comes_as_header_or_in_the_first_message(open_stream):
    with open_stream(token=TOKEN, headers={"Authorization": f"Bearer {TOKEN}"}) as socket:
        assert talk(socket, START, [])[-1]["type"] == "done"
    with open_stream(token=TOKEN) as socket:
        assert talk(socket, START | {"token": TOKEN}, [])[-1]["type"] == "done"


def test_a_stream_to_a_foreign_host_is_refused(open_stream):
    foreign = {"Host": "evil.example"}
    with pytest.raises(WebSocketDisconnect), open_stream(headers=foreign):
        pass
    with open_stream(token=TOKEN, headers=foreign | {"X-API-Key": TOKEN}) as socket:
        assert talk(socket, START, [])[-1]["type"] == "done"


def test_pages_of_other_sites_are_refused(open_stream):
    with open_stream(headers={"Origin": "http://elsewhere.example"}) as socket:
        socket.send_json(START)
        assert refused(socket) == ("bad_origin", 1008)
    with open_stream(headers={"Origin": "http://localhost"}) as socket:
        assert talk(socket, START, [])[-1]["type"] == "done"
    for origins in (("https://birds.example",), ("*",)):  # behind a proxy that changes Host
        with open_stream(
            headers={"Origin": "https://birds.example"}, allow_origins=origins
        ) as socket:
            assert talk(socket, START, [])[-1]["type"] == "done"
