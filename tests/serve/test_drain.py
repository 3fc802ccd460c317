"""Draining: those inside are answered, those that come are sent away, health still answers."""

import asyncio

import pytest

from xmoe.serve.drain import Gate


@pytest.fixture
def gate():
    """A gate before an application that answers when the event in its scope is set."""

    async def app(scope, receive, send):
        await scope["done"].wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"answer"})

    return Gate(app, retry_after_s=3)


async def ask(gate, done, path="/v1/classify", kind="http"):
    sent = []

    async def send(message):
        sent.append(message)

    await gate({"type": kind, "path": path, "done": done, "method": "POST"}, None, send)
    return sent


def test_those_inside_are_answered_and_new_ones_sent_away(gate):
    async def main():
        done = asyncio.Event()
        inside = [asyncio.create_task(ask(gate, done)) for _ in range(3)]
        await asyncio.sleep(0)
        draining = asyncio.create_task(gate.drain(5.0))
        await asyncio.sleep(0)
        late = await ask(gate, done)
        assert not draining.done()
        done.set()
        return [sent[0]["status"] for sent in await asyncio.gather(*inside)], late, await draining

    statuses, late, left = asyncio.run(main())
    assert statuses == [200] * 3
    assert left == 0
    assert late[0]["status"] == 503
    assert dict(late[0]["headers"])[b"retry-after"] == b"3"
    assert b'"draining"' in late[1]["body"]


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
    assert socket == [{"type": "websocket.close", "code": 1001, "reason": "the service stops"}]
