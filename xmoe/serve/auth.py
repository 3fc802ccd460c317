"""The door: an id for every request, a token on all but health and the page, errors as JSON.

Plain ASGI, so that it stands before routing, parsing and everything else. A client's own
``x-request-id`` is replaced, never repeated.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Iterable

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from xmoe.serve import pages

HEALTH = frozenset({"/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"})
OPEN_PATHS = HEALTH | pages.PATHS
# A browser cannot send a header with a socket, so a stream may bring its token as first message.
STREAM_PATH = "/v1/stream"
HINT = "send the header `Authorization: Bearer TOKEN` or `X-API-Key: TOKEN`"


def route_of(scope: Scope) -> str:
    """Return a request's path below the prefix that the application is mounted at."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", "")) or "/"


class Door:
    """Lets requests in: gives each an id and checks its token where one is set."""

    def __init__(self, app: ASGIApp, *, token: str | None) -> None:
        self._app = app
        self._token = None if token is None else token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer 401."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        route = route_of(scope)
        request_id = secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [h for h in message.get("headers", []) if h[0].lower() != b"x-request-id"]
                headers.append((b"x-request-id", request_id.encode()))
                message = {**message, "headers": headers}
            await send(message)

        admitted = self._admits(scope["headers"])
        if scope["type"] == "websocket" and route == STREAM_PATH:
            scope["state"]["has_token"] = self._token is not None
            scope["state"]["check_token"] = None if admitted else self._matches
            admitted = True
        if route in HEALTH and scope.get("method") == "HEAD":
            scope = {**scope, "method": "GET"}  # the server itself leaves the body out
        if admitted or route in OPEN_PATHS:
            await self._app(scope, receive, send_with_id)
            return
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": HINT})
            return
        body = {"code": "unauthorised", "message": "no token, or a wrong one", "hint": HINT}
        if route.startswith("/v2"):
            body["error"] = f"{body['message']}; {HINT}"
        refusal = JSONResponse(
            body | {"request_id": request_id}, 401, headers={"WWW-Authenticate": "Bearer"}
        )
        await refusal(scope, receive, send_with_id)

    def _admits(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """Whether no token is set, or a header carries it; compared in constant time."""
        if self._token is None:
            return True
        given = b""
        for name, value in headers:
            if name == b"x-api-key":
                given = value
            elif name == b"authorization" and value[:7].lower() == b"bearer ":
                given = value[7:].strip()
        return hmac.compare_digest(given, self._token)

    def _matches(self, given: str) -> bool:
        """Whether a first message carries the token."""
        return self._token is None or hmac.compare_digest(given.encode(), self._token)
