"""The body of a request -> bytes of one recording, within size and time.

The count is kept while the body comes in: a declared length is checked first, and what comes in
chunks is dropped as soon as it is too much.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from xmoe.serve.problems import FORMATS, HttpProblem
from xmoe.serve.settings import HttpSettings

MAX_FIELDS = 8


async def read_json(request: Request, http: HttpSettings) -> bytes:
    """Return a body of JSON, which may be shorter than that of a file."""
    least = min(http.max_json_bytes, http.max_body_bytes)
    return await read_body(request, http.model_copy(update={"max_body_bytes": least}))


async def read_body(request: Request, http: HttpSettings) -> bytes:
    """Return the whole body; HttpProblem where it is too large, too slow, or breaks off."""
    declared = request.headers.get("content-length")
    if declared is not None and not declared.isdecimal():
        hint = "send the number of bytes, or leave it out and send chunks"
        raise HttpProblem(400, "bad_request", "Content-Length is no number", hint=hint)
    if declared is not None and int(declared) > http.max_body_bytes:
        raise too_large(http)
    pieces = [piece async for piece in limited_stream(request, http)]
    return b"".join(pieces)


async def limited_stream(request: Request, http: HttpSettings) -> AsyncGenerator[bytes, None]:
    """Yield the body's pieces; HttpProblem where they are too many or come too slowly."""
    total = 0
    try:
        async with asyncio.timeout(http.body_timeout_s):
            async for piece in request.stream():
                total += len(piece)
                if total > http.max_body_bytes:
                    raise too_large(http)
                yield piece
    except TimeoutError as error:
        raise HttpProblem(
            408, "body_timeout", "the body did not arrive in time", hint="send it without pauses"
        ) from error
    except ClientDisconnect as error:
        raise HttpProblem(
            400, "bad_request", "the body broke off", hint="send all of the declared bytes"
        ) from error


def too_large(http: HttpSettings) -> HttpProblem:
    """Return the refusal of a body over the limit."""
    hint = (
        f"send it as FLAC or OGG, or in parts: a file may have {http.max_duration_s:.0f} s and "
        "the bytes of `limits` in /v1/model, JSON fewer bytes"
    )
    return HttpProblem(413, "too_large", f"the body exceeds {http.max_body_bytes} bytes", hint=hint)


async def read_form_files(request: Request, http: HttpSettings, *, most: int) -> list[bytes]:
    """Return the files of a multipart body, at most ``most``; names of files are not used."""
    declared = request.headers.get("content-length")
    if declared is not None and declared.isdecimal() and int(declared) > http.max_body_bytes:
        raise too_large(http)
    parser = MultiPartParser(
        request.headers,
        limited_stream(request, http),
        max_files=most + 1,
        max_fields=MAX_FIELDS,
    )
    try:
        form = await parser.parse()
    except (MultiPartException, HTTPException, KeyError, UnicodeDecodeError, ValueError) as error:
        raise HttpProblem(
            400, "bad_form", "the form cannot be read", hint="send one part per recording"
        ) from error
    try:
        files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
        if not files:
            raise HttpProblem(422, "no_file", "the form holds no file", hint=FORMATS)
        if len(files) > most:
            hint = "use /v1/classify/batch" if most == 1 else f"send at most {most} files at once"
            raise HttpProblem(422, "too_many_files", "the form holds too many files", hint=hint)
        return [await file.read() for file in files]
    finally:
        await form.close()
