"""The longest that a request may take: refused in time, answers untouched, sockets left alone."""

import asyncio

import pytest

from xmoe.serve.guard.clock import Clock


def run(app, kind="http", limit_s=0.05, path="/"):
    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        return {"type": f"{kind}.disconnect"}

    scope = {"type": kind, "method": "POST", "path": path, "headers": [], "state": {}}
    scope["state"]["request_id"] = "abc"
    asyncio.run(Clock(app, limit_s=limit_s)(scope, receive, send))
    return sent


async def slow(scope, receive, send):
    await asyncio.sleep(0.2)
    await send({"type": "late"})


async def halting(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await asyncio.sleep(0.2)


async def failing(scope, receive, send):
    raise TimeoutError("of its own")


def test_what_takes_too_long_is_refused():
    start, body = run(slow)
    assert start["status"] == 503
    assert (b"retry-after", b"1") in start["headers"]
    assert b'"code":"timeout"' in body["body"]
    assert b"abc" in body["body"]
    assert b'"error"' not in body["body"]
    assert b'"error":"it takes more' in run(slow, path="/v2/models/xmoe/infer")[1]["body"]


def test_what_is_in_time_and_what_is_a_socket_passes():
    assert run(slow, limit_s=5.0) == [{"type": "late"}]
    assert run(slow, kind="websocket") == [{"type": "late"}]


@pytest.mark.parametrize("app", [halting, failing])
def test_a_begun_answer_and_an_error_of_the_application_stay_what_they_are(app):
    with pytest.raises(TimeoutError):
        run(app)
