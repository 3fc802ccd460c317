"""How many requests a router takes in, and its last ones when it stops.

A fixed number is inside at once, as many more wait in order of arrival, and the rest get 429. Ray
could count too, but its refusals are not JSON, and behind HAProxy they become errors because the
body on its way is not read. Health and streams pass uncounted: probes must be answered when all is
full, and streams have a limit of their own.

Serve stops all deployments of an application at once, experts as well as routers, and the HTTP
proxy with them. So stopping takes two steps: every router drains first, then all is stopped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from xmoe.serve.guard.auth import HEALTH, route_of, to_response
from xmoe.serve.guard.problems import HttpProblem, busy, draining

ALIVE_PATHS = frozenset({"/healthz", "/v2/health/live"})
LOOK_S = 0.02
# Read of a refused body, so that the client sees the answer and not a broken pipe.
MOST_DROPPED_BYTES = 1 << 20
DROP_WITHIN_S = 2.0


class Gate:
    """Lets ``at_once`` requests into an application; ``waiting`` more wait for their turn.

    The bodies of all requests inside hold at most ``held_bytes`` once inflated. Further requests
    get 429, and after closing 503. ``note`` is told the code of each refusal.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        at_once: int,
        waiting: int,
        held_bytes: int = 1 << 30,
        retry_after_s: int = 1,
        note: Callable[[str], None] | None = None,
    ) -> None:
        self._app = app
        self._turns = asyncio.Semaphore(at_once)
        self._most = at_once + waiting
        self._retry_after_s = retry_after_s
        self._note = note
        self._closed = False
        self._counted = 0
        self._most_bytes = held_bytes
        self._held = 0
        self.inside = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        if self._closed and route_of(scope) not in ALIVE_PATHS:
            await self._refuse(draining(self._retry_after_s), scope, receive, send)
            return
        self.inside += 1
        try:
            if scope["type"] == "websocket" or route_of(scope) in HEALTH:
                await self._app(scope, receive, send)
            elif self._counted < self._most:
                await self._take_turn(scope, receive, send)
            else:
                await self._refuse(busy(self._retry_after_s), scope, receive, send)
        finally:
            self.inside -= 1

    async def _take_turn(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._counted += 1
        mine = 0

        def hold(size: int) -> None:
            nonlocal mine
            if self._held + size > self._most_bytes:
                raise busy(self._retry_after_s)
            mine += size
            self._held += size

        async def receive_counted() -> Message:
            message = await receive()
            hold(len(message.get("body", b"")))
            return message

        scope.setdefault("state", {})["hold"] = hold
        try:
            async with self._turns:
                await self._app(scope, receive_counted, send)
        finally:
            self._counted -= 1
            self._held -= mine

    async def _refuse(
        self, problem: HttpProblem, scope: Scope, receive: Receive, send: Send
    ) -> None:
        if self._note is not None:
            self._note(problem.problem.code)
        if scope["type"] == "websocket":
            await send(
                {"type": "websocket.close", "code": 1001, "reason": "the service is shutting down"}
            )
            return
        await drop_body(receive)
        await to_response(problem, scope)(scope, receive, send)

    async def drain(self, timeout_s: float) -> int:
        """Close, wait for the requests inside, and return how many are left after the timeout."""
        self._closed = True
        end = asyncio.get_running_loop().time() + timeout_s
        while self.inside and asyncio.get_running_loop().time() < end:
            await asyncio.sleep(LOOK_S)
        return self.inside


async def drop_body(receive: Receive) -> None:
    """Read and discard a body: all of a small one, the beginning of a large or a slow one."""
    read, more = 0, True
    try:
        async with asyncio.timeout(DROP_WITHIN_S):
            while more and read < MOST_DROPPED_BYTES:
                message = await receive()
                read += len(message.get("body", b""))
                more = message["type"] == "http.request" and message.get("more_body", False)
    except TimeoutError:
        return
