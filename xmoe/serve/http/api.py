"""The service -> one ASGI application: routes, errors as JSON, the door in front.

Built anew in every replica, and in tests without Ray. FastAPI's documentation pages are left out
because they load scripts from elsewhere; the schema is at ``/openapi.json``.
"""

from __future__ import annotations

import logging
from types import MappingProxyType
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from xmoe import __version__
from xmoe.serve import pages
from xmoe.serve.guard.auth import OPEN_PATHS, Door, host_in, to_response
from xmoe.serve.guard.clock import Clock
from xmoe.serve.guard.problems import HttpProblem, Problem, describe_error
from xmoe.serve.guard.tokens import Allowances
from xmoe.serve.http import stream, v1, v2
from xmoe.serve.http.service import Service
from xmoe.serve.http.tensors import LENGTH

LOG = logging.getLogger("xmoe.serve")
NOBODY: Allowances = MappingProxyType({})
# From here on gzip saves more than it costs; the page is small, and its ETags name plain files.
GZIP_BYTES = 1 << 15
NOT_ZIPPED = ("audio/*", "image/*", "text/*")
CODES = {
    400: ("bad_request", "send a well-formed request"),
    404: ("not_found", "see /openapi.json for the routes"),
    405: ("bad_method", "see /openapi.json for the methods of this route"),
}

REFUSALS: dict[int | str, str] = {
    400: "malformed",
    401: "no token, or a wrong one",
    403: "the token lacks the scope for this",
    404: "there is no such route or model",
    405: "the route has no such method",
    408: "the body arrived too slowly",
    413: "too large or too long",
    415: "not a recording, or in an unknown coding",
    421: "no token is set, and the request names another host than this service",
    422: "something else is wrong with the recording or an option",
    429: "too many requests, of all or of this token; try again after Retry-After seconds",
    500: "the server failed",
    503: "too few experts answered, or the run is of another version; see Retry-After",
    507: "there is no room for another correction",
}
SECURITY: dict[str, dict[str, str]] = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}


class Application(FastAPI):
    """The routes, with the token in their schema: either header, or none where none is set."""

    def openapi(self) -> dict[str, Any]:
        schema = super().openapi()
        schema["components"]["securitySchemes"] = SECURITY
        schema["security"] = [{"bearer": []}, {"key": []}, {}]
        for path in OPEN_PATHS & set(schema["paths"]):
            for operation in schema["paths"][path].values():
                operation["security"] = []
        return schema


class Zipped(GZipMiddleware):
    """Gzips long answers for clients that accept it; Starlette alone would do so for `q=0` too."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = Headers(raw=scope.get("headers", [])).get("accept-encoding", "")
        refused = "gzip;q=0" in asked.replace(" ", "")
        await (self.app if refused else super().__call__)(scope, receive, send)


def build_app(service: Service, *, tokens: Allowances = NOBODY) -> ASGIApp:
    """The application for a service; all routes but health and pages ask for a token."""
    timed = Clock(build_routes(service), limit_s=service.settings.http.request_timeout_s)
    http = service.settings.http
    door = Door(timed, tokens=tokens, hosts=(*http.allow_hosts, host_in(http.public_url)))
    origins = http.allow_origins
    if not origins:
        return door
    # Outside the door: a browser's preflight request carries no token.
    return CORSMiddleware(
        door,
        allow_origins=origins,
        allow_methods=("GET", "POST"),
        allow_headers=("authorization", "content-encoding", "content-type", LENGTH, "x-api-key"),
        expose_headers=("retry-after", "x-request-id", LENGTH),
    )


def build_routes(service: Service) -> FastAPI:
    address = service.settings.http.public_url
    app = Application(
        title="xmoe",
        version=__version__,
        summary="Classification of recordings by a mixture of experts that explanations route",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        servers=[{"url": address.rstrip("/")}] if address else None,
        root_path_in_servers=not address,
        responses={
            status: {"model": Problem, "description": words} for status, words in REFUSALS.items()
        },
    )
    app.add_middleware(
        Zipped, minimum_size=GZIP_BYTES, compresslevel=1, exclude_content_types=NOT_ZIPPED
    )
    v1.add_routes(app.router, service)
    app.include_router(v2.build_router(service))
    app.include_router(stream.build_router(service))
    app.include_router(pages.build_router())

    def answer_problem(request: Request, error: Exception) -> JSONResponse:
        problem = describe_error(error, retry_after_s=service.settings.faults.retry_after_s)
        service.meter.note_refusal(problem.problem.code)
        if problem.status == 500:
            request_id = request.scope.get("state", {}).get("request_id", "")
            LOG.exception("request %s failed", request_id, exc_info=error)
        return to_response(problem, request.scope)

    app.add_exception_handler(RequestValidationError, answer_invalid)
    app.add_exception_handler(HTTPException, answer_http)
    for kind in v1.EXPECTED:
        app.add_exception_handler(kind, answer_problem)
    app.add_exception_handler(Exception, answer_problem)
    return app


def answer_http(request: Request, error: Exception) -> Response:
    """The router's own refusals: allowed methods, links below a prefix."""
    assert isinstance(error, HTTPException)
    headers, root = dict(error.headers or {}), request.scope.get("root_path", "")
    if error.status_code == 404 and request.scope["path"] == root != "":
        return RedirectResponse(root.rpartition("/")[2] + "/")  # the page's links are relative
    code, hint = CODES.get(error.status_code, ("bad_request", "send a well-formed request"))
    if error.status_code == 405:
        methods = {"OPTIONS", *headers.get("Allow", "").split(", ")}
        methods |= {"HEAD"} if "GET" in methods else {"PUT"}
        headers["Allow"] = ", ".join(sorted(methods))
        if request.method == "OPTIONS":
            return Response(status_code=204, headers=headers)
        hint = f"this route has {headers['Allow']}"
    message = str(error.detail)[:200]
    problem = HttpProblem(error.status_code, code, message, hint=hint, headers=headers)
    return to_response(problem, request.scope)


def answer_invalid(request: Request, error: Exception) -> JSONResponse:
    """422 naming the first wrong field; its value is not echoed."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    problem = HttpProblem(
        422, "bad_field", f"{where}: {first['msg']}"[:300], hint="see /openapi.json for the fields"
    )
    return to_response(problem, request.scope)
