"""The last requests of a router: new ones are sent away, those inside are answered.

Serve stops all deployments of an application at once, experts as well as routers, and the HTTP
proxy with them. So the end is made in two steps: every router drains first, then all is stopped.
"""

from __future__ import annotations

import asyncio

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from xmoe.serve.problems import draining

ALIVE_PATHS = frozenset({"/healthz", "/v2/health/live"})
LOOK_S = 0.02


class Gate:
    """Counts the requests inside an application; closed, it answers 503 to new ones."""

    def __init__(self, app: ASGIApp, *, retry_after_s: int = 1) -> None:
        self._app = app
        self._retry_after_s = retry_after_s
        self._closed = False
        self.inside = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on and count it, or send it away."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        if self._closed and scope["path"] not in ALIVE_PATHS:
            await self._refuse(scope, receive, send)
            return
        self.inside += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self.inside -= 1

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1001, "reason": "the service stops"})
            return
        problem = draining(self._retry_after_s)
        headers = {"Retry-After": str(self._retry_after_s)}
        reply = JSONResponse(problem.problem.model_dump(), problem.status, headers=headers)
        await reply(scope, receive, send)

    async def drain(self, timeout_s: float) -> int:
        """Close, wait for those inside for so long, and return how many are still there."""
        self._closed = True
        end = asyncio.get_running_loop().time() + timeout_s
        while self.inside and asyncio.get_running_loop().time() < end:
            await asyncio.sleep(LOOK_S)
        return self.inside
