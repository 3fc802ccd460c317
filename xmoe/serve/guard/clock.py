"""A time limit for every request; streams have their own.

Ray's proxy has one limit for requests and sockets alike, which therefore must be that of a stream.
"""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from xmoe.serve.guard.auth import to_response
from xmoe.serve.guard.problems import HttpProblem


class Clock:
    """Ends requests that take longer than ``limit_s`` with 503."""

    def __init__(self, app: ASGIApp, *, limit_s: float, retry_after_s: int = 1) -> None:
        self._app = app
        self._limit_s = limit_s
        self._retry_after_s = retry_after_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = False

        async def note(message: Message) -> None:
            nonlocal began
            began = True
            await send(message)

        try:
            async with asyncio.timeout(self._limit_s) as limit:
                await self._app(scope, receive, note)
        except TimeoutError:
            if began or not limit.expired():
                raise
            await self._refuse(scope, receive, send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        what, hint = f"it takes more than {self._limit_s:g} s", "try again, or send a shorter part"
        problem = HttpProblem(503, "timeout", what, hint=hint, retry_after_s=self._retry_after_s)
        await to_response(problem, scope)(scope, receive, send)
