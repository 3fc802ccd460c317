"""The door: an id for every request, a token on all but health and the page, errors as JSON.

Plain ASGI, so that it stands before routing, parsing and everything else. A client's own
``x-request-id`` is replaced, never repeated. Who is sent away leaves a line in the log
``xmoe.audit``: request id, name of the token, route and reason; never a token.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterable

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as Connection

from xmoe.serve import pages
from xmoe.serve.problems import HttpProblem
from xmoe.serve.tokens import CHARGE, Allowances, Holder, Keys, Scope, scope_of

AUDIT = logging.getLogger("xmoe.audit")

HEALTH = frozenset({"/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"})
OPEN_PATHS = HEALTH | pages.PATHS
# A browser cannot send a header with a socket, so a stream may bring its token as first message.
STREAM_PATH = "/v1/stream"
HINT = "send the header `Authorization: Bearer TOKEN` or `X-API-Key: TOKEN`"


REFUSED = {
    "unauthorised": (401, "no token, or a wrong one", HINT),
    "no_scope": (403, "the token may not ask this", "use a token with the scope {scope}"),
    "quota": (429, "the token has asked for more than it may", "come back after Retry-After"),
}


def route_of(scope: Connection) -> str:
    """Return a request's path below the prefix that the application is mounted at."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", "")) or "/"


def check_scope(scope: Connection, wanted: Scope) -> None:
    """Raise HttpProblem where the token of a request that was let in has not this scope."""
    holder: Holder | None = scope["state"].get("holder")
    if holder is not None and wanted not in holder.scopes:
        note_refusal(scope, "no_scope", holder)
        status, message, hint = REFUSED["no_scope"]
        raise HttpProblem(status, "no_scope", message, hint=hint.format(scope=wanted))


def note_refusal(scope: Connection, code: str, holder: Holder | None) -> None:
    """Write the line of a request that is sent away."""
    name = "-" if holder is None else holder.name
    request_id = scope["state"]["request_id"]
    AUDIT.warning("refused %s token=%s route=%s: %s", request_id, name, route_of(scope), code)


class Door:
    """Lets requests in: gives each an id, and checks its token where there are any."""

    def __init__(self, app: ASGIApp, *, tokens: Allowances) -> None:
        self._app = app
        self._keys = Keys(tokens)

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        """Pass a request on, or send it away."""
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

        refused, wait_s = None, 0
        holder = self._keys.find(_token_in(scope["headers"])) if self._keys else None
        if route not in OPEN_PATHS:
            refused, wait_s = self._judge(scope, holder)
        if refused == "unauthorised" and scope["type"] == "websocket" and route == STREAM_PATH:
            scope["state"]["check_token"] = lambda given: self._let_in(scope, given)
            refused = None
        scope["state"]["has_token"] = bool(self._keys)
        if route in HEALTH and scope.get("method") == "HEAD":
            scope = {**scope, "method": "GET"}  # the server itself leaves the body out
        if refused is None:
            await self._app(scope, receive, send_with_id)
            return
        note_refusal(scope, refused, holder)
        await _send_away(refused, wait_s, scope, receive, send_with_id)

    def _judge(self, scope: Connection, holder: Holder | None) -> tuple[str | None, int]:
        """Return why a request is sent away, None where it is not, and when it may come again.

        One that is let in is counted, and so is the sound that it brings.
        """
        if not self._keys:
            return None, 0
        if holder is None:
            return "unauthorised", 0
        if scope_of(route_of(scope)) not in holder.scopes:
            return "no_scope", 0
        if wait_s := holder.admit():
            return "quota", wait_s
        scope["state"]["holder"] = holder
        CHARGE.set(holder.charge)
        return None, 0

    def _let_in(self, scope: Connection, given: str) -> bool:
        """Whether a first message carries a token with which a stream is let in."""
        holder = self._keys.find(given.encode())
        refused, _ = self._judge(scope, holder)
        if refused is not None:
            note_refusal(scope, refused, holder)
        return refused is None


async def _send_away(
    code: str, wait_s: int, scope: Connection, receive: Receive, send: Send
) -> None:
    status, message, hint = REFUSED[code]
    hint = hint.format(scope=scope_of(route_of(scope)))
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": hint})
        return
    request_id = scope["state"]["request_id"]
    body = {"code": code, "message": message, "hint": hint, "request_id": request_id}
    if route_of(scope).startswith("/v2"):
        body["error"] = f"{message}; {hint}"
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    if wait_s:
        headers["Retry-After"] = str(wait_s)
    await JSONResponse(body, status, headers=headers)(scope, receive, send)


def _token_in(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the token that headers carry, empty where they carry none."""
    given = b""
    for name, value in headers:
        if name == b"x-api-key":
            given = value
        elif name == b"authorization" and value[:7].lower() == b"bearer ":
            given = value[7:].strip()
    return given
