"""The body of a request -> bytes of one recording, or a record of JSON, within size and time.

Bytes are counted as they arrive: a declared length is checked first, and chunks are dropped as soon
as they are too many. Compressed bodies are inflated piece by piece under the same limits, so that
no bomb is ever whole in memory.
"""

from __future__ import annotations

import asyncio
import base64
import codecs
import zlib
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.datastructures import Headers, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from xmoe.serve.guard.problems import FORMATS, HttpProblem
from xmoe.serve.settings import HttpSettings

Record = TypeVar("Record", bound=BaseModel)
MAX_FIELDS = 8
CODINGS = frozenset({"gzip", "x-gzip", "deflate"})
GZIP_OR_ZLIB = zlib.MAX_WBITS | 32
PIECE_BYTES = 1 << 18
# Tools that split gzip into members make them of 64 KiB; far smaller ones only waste time.
MOST_MEMBERS = 4096
# base64 as clients write it: URL-safe letters, and white space to ignore.
FROM_CLIENTS = str.maketrans("-_", "+/", " \t\r\n\v\f")


class Form(NamedTuple):
    """The recordings in a form, and its other fields."""

    files: list[bytes]
    fields: dict[str, bytes]

    @property
    def texts(self) -> dict[str, str]:
        return {name: value.decode(errors="replace") for name, value in self.fields.items()}


def read_record(kind: type[Record], given: bytes | Mapping[str, Any]) -> Record:
    """A validated record from JSON or plain values; HttpProblem names the first mistake."""
    try:
        if isinstance(given, bytes):
            return kind.model_validate_json(given.removeprefix(codecs.BOM_UTF8))
        return kind.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        if first["type"] == "json_invalid":
            hint = "send JSON as UTF-8, or a file"
            raise HttpProblem(400, "bad_json", "the body is not JSON", hint=hint) from error
        where = ".".join(str(part) for part in first["loc"])
        what = f"{where}: {first['msg']}"[:300]
        hint = "see /openapi.json for the fields"
        raise HttpProblem(422, "bad_field", what, hint=hint) from error


def looks_like_json(data: bytes) -> bool:
    """Whether a body is JSON, whatever its Content-Type says; no recording starts like that."""
    return data[:64].removeprefix(codecs.BOM_UTF8).lstrip()[:1] in (b"{", b"[")


def check_json_size(data: bytes, http: HttpSettings) -> bytes:
    """The body; HttpProblem where it is too long for JSON."""
    if len(data) > http.max_json_bytes:
        raise too_large(http.max_json_bytes, http)
    return data


async def read_body(request: Request, http: HttpSettings) -> bytes:
    """The whole body; HttpProblem where it is too large, too slow, or breaks off."""
    declared = request.headers.get("content-length")
    if declared is not None and not declared.isdecimal():
        hint = "send the number of bytes, or leave it out and send chunks"
        raise HttpProblem(400, "bad_request", "Content-Length is not a number", hint=hint)
    return b"".join([piece async for piece in limited_stream(request, http)])


async def limited_stream(request: Request, http: HttpSettings) -> AsyncGenerator[bytes, None]:
    """Yield the body in pieces, inflated.

    HttpProblem where it is too large or too slow, or compressed in an unknown way.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > http.max_body_bytes:
        raise too_large(http.max_body_bytes, http)
    pieces = bounded(request.stream(), http)
    if is_compressed(request):
        pieces = bounded(inflate(pieces, request.scope["state"].get("hold")), http)
    try:
        async with asyncio.timeout(http.body_timeout_s):
            async for piece in pieces:
                yield piece
    except TimeoutError as error:
        raise HttpProblem(
            408, "body_timeout", "the body did not arrive in time", hint="send it without pauses"
        ) from error
    except ClientDisconnect as error:
        raise HttpProblem(
            400, "bad_request", "the body broke off", hint="send all of the declared bytes"
        ) from error


async def bounded(
    pieces: AsyncGenerator[bytes, None], http: HttpSettings
) -> AsyncGenerator[bytes, None]:
    """Yield pieces while they stay within the limit."""
    total = 0
    async for piece in pieces:
        total += len(piece)
        if total > http.max_body_bytes:
            raise too_large(http.max_body_bytes, http)
        yield piece


def is_compressed(request: Request) -> bool:
    """Whether to inflate a body; HttpProblem for a coding that is not read here."""
    named = ",".join(request.headers.getlist("content-encoding")).lower().split(",")
    codings = [coding for coding in map(str.strip, named) if coding not in ("", "identity")]
    if len(codings) > 1 or not CODINGS.issuperset(codings):
        raise HttpProblem(
            415,
            "unsupported",
            "the body's Content-Encoding is unknown",
            hint="send gzip, deflate or the plain bytes; a charset belongs in Content-Type",
            headers={"Accept-Encoding": "gzip, deflate"},
        )
    return bool(codings)


async def inflate(
    pieces: AsyncGenerator[bytes, None], hold: Callable[[int], None] | None
) -> AsyncGenerator[bytes, None]:
    """Yield the content of gzip or zlib; ``hold`` is told of bytes before they are passed on."""
    unzip, members = zlib.decompressobj(GZIP_OR_ZLIB), 1
    async for rest in pieces:
        while rest:
            if unzip.eof:
                unzip, members = zlib.decompressobj(GZIP_OR_ZLIB), members + 1
            try:
                part = unzip.decompress(rest, PIECE_BYTES)
            except zlib.error as error:
                raise bad_coding("it is neither gzip nor zlib, or damaged") from error
            if members > MOST_MEMBERS:
                raise bad_coding(f"it has more than {MOST_MEMBERS} members")
            rest = unzip.unconsumed_tail or unzip.unused_data
            if hold is not None:
                hold(len(part))
            yield part
            await asyncio.sleep(0)  # let others run
    if not unzip.eof:
        raise bad_coding("it is cut short")


def bad_coding(why: str) -> HttpProblem:
    what = f"the body is not what its Content-Encoding says: {why}"
    hint = "compress the body as it says, or leave Content-Encoding out"
    return HttpProblem(400, "bad_coding", what, hint=hint)


def too_large(most: int, http: HttpSettings) -> HttpProblem:
    hint = (
        f"send it as FLAC or OGG, or in parts: a file may have {http.max_duration_s:.0f} s and "
        "the bytes of `limits` in /v1/model, JSON fewer bytes"
    )
    return HttpProblem(413, "too_large", f"the body exceeds {most} bytes", hint=hint)


async def read_form(request: Request, http: HttpSettings, *, most: int) -> Form:
    """The recordings in a multipart body, at most ``most``, and its other fields.

    Names of files and fields do not matter. Clients that hold a recording in memory may send no
    file name at all; its bytes tell it from text.
    """
    named = request.headers.get("content-type", "")
    if "boundary=" not in named.lower():
        hint = "let the HTTP client set Content-Type: it adds the boundary"
        raise HttpProblem(400, "bad_form", "Content-Type names no boundary", hint=hint)
    parser = MultiPartParser(
        Headers({"content-type": f"{named}; charset=latin-1"}),  # keeps every byte of a field
        limited_stream(request, http),
        max_files=most + 1,
        max_fields=most + MAX_FIELDS,
        max_part_size=http.max_body_bytes,
    )
    try:
        form = await parser.parse()
    except (MultiPartException, HTTPException, KeyError, UnicodeDecodeError, ValueError) as error:
        raise HttpProblem(
            400, "bad_form", "the form cannot be read", hint="send one part per recording"
        ) from error
    try:
        parts = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
        files = [await read_part(part) for part in parts if part.size or part.filename]
    finally:
        await form.close()
    texts = [
        (name, text.encode("latin-1")) for name, text in form.multi_items() if isinstance(text, str)
    ]
    files = files or [text for _, text in texts if b"\x00" in text or b"\xff" in text]
    if not files:
        raise HttpProblem(422, "no_file", "the form holds no file", hint=FORMATS)
    if len(files) > most:
        one = "send one file; only /v1/classify/batch takes several"
        hint = one if most == 1 else f"send at most {most} files at once"
        raise HttpProblem(422, "too_many_files", "the form holds too many files", hint=hint)
    return Form(files, dict(texts))


async def read_part(part: UploadFile) -> bytes:
    """The bytes of a file in a form, decoded where the part says that it is base64."""
    data = await part.read()
    coded = part.headers.get("content-transfer-encoding", "").strip().lower() == "base64"
    return await asyncio.to_thread(read_base64, data.decode("latin-1")) if coded else data


def read_base64(text: str) -> bytes:
    """Decode base64: with line ends, without padding, URL-safe, or as a data URI."""
    if text.startswith("data:"):
        text = text.partition(",")[2]
    text = text.translate(FROM_CLIENTS).rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError as error:
        hint = "send the file's bytes as base64"
        raise HttpProblem(422, "bad_field", "data is not base64", hint=hint) from error
