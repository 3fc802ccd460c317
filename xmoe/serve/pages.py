"""The web pages: their files, with types, validators and a policy that allows no other host.

``/`` is for users, ``/ops`` for operators. The files lie in ``page/`` beside this module. They hold
no data, so they are served without a token; the requests they make do need one.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType

from fastapi import APIRouter, Request
from starlette.responses import Response

PAGES = MappingProxyType({"/": "index.html", "/ops": "ops.html"})
TYPES = MappingProxyType(
    {
        ".html": "text/html; charset=utf-8",
        ".css": "text/css; charset=utf-8",
        ".js": "text/javascript; charset=utf-8",
        ".svg": "image/svg+xml",
    }
)
NAMES = (
    *PAGES.values(),
    "page.css",
    "icon.svg",
    "page.js",
    "api.js",
    "correct.js",
    "sound.js",
    "capture.js",
    "draw.js",
    "show.js",
    "figure.js",
    "live.js",
    "ops.css",
    "ops.js",
)
FILES = MappingProxyType(
    PAGES | {f"/page/{name}": name for name in NAMES if name not in PAGES.values()}
)
PATHS = frozenset(FILES)
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; media-src blob:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
HEADERS = MappingProxyType(
    {
        "Content-Security-Policy": POLICY,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
        "Cache-Control": "no-cache",
    }
)


@dataclass(frozen=True)
class PageFile:
    """One file of a page with its headers."""

    body: bytes
    media_type: str
    etag: str


@cache
def read_page(name: str) -> PageFile:
    """A file of a page; cached, since it does not change while the process lives."""
    body = files("xmoe.serve").joinpath("page", name).read_bytes()
    digest = hashlib.sha256(body).hexdigest()[:20]
    return PageFile(body, TYPES[name[name.rindex(".") :]], f'"{digest}"')


def build_router() -> APIRouter:
    """The routes of the pages, which are not part of the API's schema."""
    router = APIRouter(include_in_schema=False)

    def add(path: str, name: str) -> None:
        @router.api_route(path, methods=["GET", "HEAD"], name=f"page-{name}")
        async def page(request: Request) -> Response:
            return answer_file(request, read_page(name))

    for path, name in FILES.items():
        add(path, name)
    return router


def answer_file(request: Request, file: PageFile) -> Response:
    """The file, or 304 where the browser has it already."""
    headers = {**HEADERS, "ETag": file.etag}
    if file.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(file.body, media_type=file.media_type, headers=headers)
