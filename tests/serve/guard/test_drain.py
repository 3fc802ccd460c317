"""The gate: so many at once, so many wait, health always answers; and how it closes."""

import asyncio

import pytest

from xmoe.serve.guard import drain
from xmoe.serve.guard.drain import Gate
from xmoe.serve.guard.problems import HttpProblem


@pytest.fixture
def gate():
    """A gate before an application that answers when the event in its scope is set."""

    async def app(scope, receive, send):
        scope["began"] = True
        await scope["done"].wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"answer"})

    return Gate(app, at_once=3, waiting=2, retry_after_s=3)


async def ask(gate, done, path="/v1/classify", kind="http", body=None):
    """What is sent to a client; what is read of its pieces leaves ``body``."""
    sent, pieces = [], [b"a", b"b"] if body is None else body

    async def send(message):
        sent.append(message)

    async def receive():
        if not pieces:
            await asyncio.Event().wait()  # a client that stalls
        return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

    await gate({"type": kind, "path": path, "done": done, "method": "POST"}, receive, send)
    return sent


def test_those_beyond_the_room_are_sent_away_and_the_others_have_their_turn():
    running, most = 0, 0
    codes, body = [], [b"a", b"b"]

    async def app(scope, receive, send):
        nonlocal running, most
        running += 1
        most = max(most, running)
        await scope["done"].wait()
        running -= 1
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def main():
        gate = Gate(app, at_once=3, waiting=2, retry_after_s=3, note=codes.append)
        done = asyncio.Event()
        inside = [asyncio.create_task(ask(gate, done)) for _ in range(5)]
        await asyncio.sleep(0)
        refused = await ask(gate, done, body=body)
        alive = asyncio.create_task(ask(gate, done, path="/readyz"))
        stream = asyncio.create_task(ask(gate, done, kind="websocket"))
        await asyncio.sleep(0)
        assert running == 5  # three in their turn, the probe and the stream
        done.set()
        answered = await asyncio.gather(*inside, alive, stream)
        again = await ask(gate, done)
        return refused, answered, again, gate.inside

    refused, answered, again, left = asyncio.run(main())
    assert refused[0]["status"] == 429
    assert dict(refused[0]["headers"])[b"retry-after"] == b"3"
    assert b'"overloaded"' in refused[1]["body"]
    assert body == []
    assert codes == ["overloaded"]
    assert [sent[0]["status"] for sent in answered] == [200] * 7
    assert again[0]["status"] == 200
    assert (most, left) == (5, 0)


def test_one_that_gives_up_while_it_waits_leaves_its_place(gate):
    async def main():
        done = asyncio.Event()
        waiting = [asyncio.create_task(ask(gate, done)) for _ in range(5)]
        await asyncio.sleep(0)
        waiting[-1].cancel()
        await asyncio.sleep(0)
        last = asyncio.create_task(ask(gate, done))
        await asyncio.sleep(0)
        done.set()
        return (await last)[0]["status"], gate.inside

    assert asyncio.run(main())[0] == 200


def test_a_body_that_stalls_or_is_endless_is_not_waited_for(gate, monkeypatch):
    monkeypatch.setattr(drain, "DROP_WITHIN_S", 0.02)
    monkeypatch.setattr(drain, "MOST_DROPPED_BYTES", 3)
    body = [b"ab"] * 9

    async def main():
        done = asyncio.Event()
        inside = [asyncio.create_task(ask(gate, done)) for _ in range(5)]
        await asyncio.sleep(0)
        stalled = await ask(gate, done, body=[])
        endless = await ask(gate, done, body=body)
        done.set()
        await asyncio.gather(*inside)
        return stalled, endless

    stalled, endless = asyncio.run(main())
    assert stalled[0]["status"] == endless[0]["status"] == 429
    assert len(body) == 7


def test_those_inside_are_answered_and_new_ones_sent_away(gate):
    async def main():
        done = asyncio.Event()
        inside = [asyncio.create_task(ask(gate, done)) for _ in range(3)]
        await asyncio.sleep(0)
        draining = asyncio.create_task(gate.drain(5.0))
        await asyncio.sleep(0)
        late = await ask(gate, done, path="/v2/models/xmoe/infer")
        assert not draining.done()
        done.set()
        return [sent[0]["status"] for sent in await asyncio.gather(*inside)], late, await draining

    statuses, late, left = asyncio.run(main())
    assert statuses == [200] * 3
    assert left == 0
    assert late[0]["status"] == 503
    assert dict(late[0]["headers"])[b"retry-after"] == b"3"
    assert b'"draining"' in late[1]["body"]
    assert b'"error":"the service is shutting down' in late[1]["body"]


def test_it_does_not_wait_for_ever(gate):
    async def main():
        stuck = asyncio.create_task(ask(gate, asyncio.Event()))
        await asyncio.sleep(0)
        left = await gate.drain(0.05)
        stuck.cancel()
        return left

    assert asyncio.run(main()) == 1


def test_closed_it_is_still_alive_and_takes_no_websocket(gate):
    async def main():
        done = asyncio.Event()
        done.set()
        await gate.drain(0.0)
        alive = await ask(gate, done, "/healthz")
        ready = await ask(gate, done, "/readyz")
        return alive, ready, await ask(gate, done, kind="websocket")

    alive, ready, socket = asyncio.run(main())
    assert (alive[0]["status"], ready[0]["status"]) == (200, 503)
    assert socket == [
        {"type": "websocket.close", "code": 1001, "reason": "the service is shutting down"}
    ]


def test_bodies_hold_no_more_than_their_room_together():
    async def app(scope, receive, send):
        while (await receive())["more_body"]:
            pass
        await scope["done"].wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def main():
        gate = Gate(app, at_once=3, waiting=2, held_bytes=10)
        done = asyncio.Event()
        first = asyncio.create_task(ask(gate, done, body=[b"12345", b"678"]))
        await asyncio.sleep(0)
        with pytest.raises(HttpProblem) as caught:
            await ask(gate, done, body=[b"123"])
        assert caught.value.status == 429
        done.set()
        await first
        assert (await ask(gate, done, body=[b"1234567890"]))[0]["status"] == 200

    asyncio.run(main())
