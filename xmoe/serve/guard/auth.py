"""The door: an id for every request, a token on all but health and pages, errors as JSON.

Plain ASGI, so that it comes before routing and parsing. A client's own ``x-request-id`` is
replaced, never echoed. Each rejected request leaves a line in the log ``xmoe.audit``: request id,
name of the token, route and reason; never a token.

Without a token a request must name this machine as its host. Otherwise a page elsewhere could point
its own name at 127.0.0.1 (DNS rebinding), and the browser would hand it every answer.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Collection, Iterable
from types import MappingProxyType
from urllib.parse import quote, urlsplit

from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as Connection

from xmoe.serve import pages
from xmoe.serve.client import LOOPBACK
from xmoe.serve.guard.problems import HttpProblem
from xmoe.serve.guard.tokens import CHARGE, Allowances, Holder, Keys, Scope, scope_of
from xmoe.serve.telemetry import traces
from xmoe.serve.telemetry.logs import ACCESS, REQUEST_ID

AUDIT = logging.getLogger("xmoe.audit")

HEALTH = frozenset({"/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"})
OPEN_PATHS = HEALTH | pages.PATHS
# Browsers cannot set headers on a socket, so a stream may send its token as first message.
STREAM_PATH = "/v1/stream"
HINT = "send the header `Authorization: Bearer TOKEN` or `X-API-Key: TOKEN`"

MOST_ROUTE = 200
# Real clients: HEAD is GET (the server leaves the body out), and `curl -T` sends PUT.
METHODS = MappingProxyType({"HEAD": "GET", "PUT": "POST"})

REFUSED = {
    "foreign_host": (
        421,
        "the request names another host than this service",
        "ask localhost or 127.0.0.1, or have http.allow_hosts name the host, or set a token",
    ),
    "unauthorised": (401, "no token, or a wrong one", HINT),
    "no_scope": (403, "the token lacks the scope for this", "use a token with the scope {scope}"),
    "quota": (429, "the quota of the token is used up", "try again after Retry-After seconds"),
}


def route_of(scope: Connection) -> str:
    """A request's path below the prefix where the application is mounted."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", "")) or "/"


def tidy(scope: Connection) -> Connection:
    """A request as the routes know it: no double or trailing slash, a method they have.

    No redirect for these, since it would name the host and scheme that the last proxy used.
    """
    root, method = scope.get("root_path", ""), scope.get("method", "")
    below = scope["path"].removeprefix(root)
    if below.startswith("/"):
        # Line ends too: routes match despite one, but the lookup of their scope would not.
        parts = (part.rstrip("\n") for part in below.split("/"))
        below = "/" + "/".join(filter(None, parts))
    return {**scope, "path": root + below, "method": METHODS.get(method, method)}


def to_response(error: HttpProblem, scope: Connection) -> JSONResponse:
    """A refusal as it is sent; clients of ``/v2`` read its ``error``."""
    told = {"request_id": str(scope.get("state", {}).get("request_id", ""))}
    if route_of(scope).startswith("/v2"):
        told["error"] = f"{error.problem.message}; {error.problem.hint}"
    body = error.problem.model_copy(update=told).model_dump(exclude_none=True)
    return JSONResponse(body, error.status, headers=error.headers)


def check_scope(scope: Connection, wanted: Scope) -> None:
    """Raise HttpProblem where the request's token lacks this scope."""
    holder: Holder | None = scope["state"].get("holder")
    if holder is not None and wanted not in holder.scopes:
        note_refusal(scope, "no_scope", holder)
        status, message, hint = REFUSED["no_scope"]
        raise HttpProblem(status, "no_scope", message, hint=hint.format(scope=wanted))


def check_origin(asked: HTTPConnection, allowed: Collection[str]) -> None:
    """Refuse pages of other sites where no tokens are set: any page may reach loopback."""
    origin = asked.headers.get("origin")
    if origin is None or asked.scope["state"].get("has_token", False):
        return
    if origin in allowed or "*" in allowed:
        return
    if urlsplit(origin).netloc != asked.headers.get("host"):
        hint = "use the page of this service, set a token, or name the site in allow_origins"
        raise HttpProblem(403, "bad_origin", "the page belongs to another site", hint=hint)


def names_one_of(scope: Connection, hosts: Collection[str]) -> bool:
    """Whether a request asks one of these hosts, at any port; only browsers need to name one."""
    asked = (value.decode("latin-1") for name, value in scope["headers"] if name == b"host")
    return "*" in hosts or all(host_in(f"//{host}") in hosts for host in asked)


def host_in(address: str) -> str:
    """The host of an address, without brackets; empty where it has none."""
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""


def note_refusal(scope: Connection, code: str, holder: Holder | None) -> None:
    name = "-" if holder is None else holder.name
    request_id = scope["state"]["request_id"]
    route = quote(route_of(scope))[:MOST_ROUTE]  # quoted, so that a path cannot forge a log line
    AUDIT.warning("refused %s token=%s route=%s: %s", request_id, name, route, code)


def note_access(scope: Connection, status: int, seconds: float) -> None:
    """Log a request, if access lines are written; probes and pages are left out."""
    route = route_of(scope)
    if ACCESS.isEnabledFor(logging.INFO) and route not in OPEN_PATHS:
        method, holder = scope["method"], scope["state"].get("holder")
        fields = {"method": method, "route": route, "status": status}
        name = "-" if holder is None else holder.name
        took = {"milliseconds": round(1000.0 * seconds, 3), "token": name}
        ACCESS.info("%s %s %d", method, route, status, extra=fields | took)


class Door:
    """Gives each request an id, and checks its token where there are any.

    Without tokens the host is checked, which must be this machine or one of ``hosts``.
    """

    def __init__(self, app: ASGIApp, *, tokens: Allowances, hosts: Collection[str] = ()) -> None:
        self._app = app
        self._keys = Keys(tokens)
        self._hosts = {*LOOPBACK, *hosts} - {""}

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        scope = tidy(scope)
        route = route_of(scope)
        request_id = secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = request_id
        REQUEST_ID.set(request_id)
        began = time.monotonic()

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                note_access(scope, message["status"], time.monotonic() - began)
                traces.note(status=message["status"])
                headers = [h for h in message.get("headers", []) if h[0].lower() != b"x-request-id"]
                headers.append((b"x-request-id", request_id.encode()))
                message = {**message, "headers": headers}
            await send(message)

        refused, wait_s = None, 0
        holder = self._keys.find(_token_in(scope["headers"])) if self._keys else None
        if route not in OPEN_PATHS:
            refused, wait_s = self._judge(scope, holder)
        if refused == "unauthorised" and scope["type"] == "websocket" and route == STREAM_PATH:
            scope["state"]["let_in"] = lambda given: self._let_in(scope, given)
            refused = None
        scope["state"]["has_token"] = bool(self._keys)
        if refused is None:
            await self._pass_on(scope, receive, send_with_id)
            return
        note_refusal(scope, refused, holder)
        await _send_away(refused, wait_s, scope, receive, send_with_id)

    async def _pass_on(self, scope: Connection, receive: Receive, send: Send) -> None:
        """Have a request answered, traced unless it is a probe, a page or a stream."""
        route = route_of(scope)
        if scope["type"] != "http" or route in OPEN_PATHS:
            await self._app(scope, receive, send)
            return
        name, request_id = f"{scope['method']} {route}", scope["state"]["request_id"]
        with traces.span_of_request(name, scope["headers"], request_id):
            await self._app(scope, receive, send)

    def _judge(self, scope: Connection, holder: Holder | None) -> tuple[str | None, int]:
        """Why a request is rejected, or None, and in how many seconds it may come again.

        An accepted request counts against its quota, and so does the sound that it brings.
        """
        if not self._keys:
            return None if names_one_of(scope, self._hosts) else "foreign_host", 0
        if holder is None:
            return "unauthorised", 0
        if scope_of(route_of(scope)) not in holder.scopes:
            return "no_scope", 0
        if wait_s := holder.admit():
            return "quota", wait_s
        scope["state"]["holder"] = holder
        CHARGE.set(holder.charge)
        return None, 0

    def _let_in(self, scope: Connection, given: str) -> None:
        """Check the token in a stream's first message; HttpProblem where it will not do."""
        holder = self._keys.find(given.encode())
        refused, wait_s = self._judge(scope, holder)
        if refused is None:
            return
        note_refusal(scope, refused, holder)
        status, message, hint = REFUSED[refused]
        hint = hint.format(scope=scope_of(route_of(scope)))
        if refused == "unauthorised":
            hint += ", or put it as `token` into the first message"
        if wait_s:
            hint = f"try again in {wait_s} s"
        raise HttpProblem(status, refused, message, hint=hint)


async def _send_away(
    code: str, wait_s: int, scope: Connection, receive: Receive, send: Send
) -> None:
    status, message, hint = REFUSED[code]
    hint = hint.format(scope=scope_of(route_of(scope)))
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": hint})
        return
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    problem = HttpProblem(
        status, code, message, hint=hint, retry_after_s=wait_s or None, headers=headers
    )
    await to_response(problem, scope)(scope, receive, send)


def _token_in(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The token in the headers, empty where there is none."""
    given = b""
    for name, value in headers:
        if name == b"x-api-key":
            given = value
        elif name == b"authorization" and value[:7].lower() == b"bearer ":
            given = value[7:].strip()
    return given
