"""``WS /v1/stream``: PCM in, one JSON answer per hop out. A window is answered as ``/v1/classify``
would answer a recording of just these samples.

The first message is JSON (``StreamStart``); then binary messages of PCM, of any size, and at last
``{"type": "end"}``. Frames sent: ``ready``, then in order of time ``answer`` or, for a window that
got none, ``problem``, and finally ``done``. A stream that ends early gets an ``error`` frame
``{code, message, hint}`` before the socket closes.

Messages are read at once, because Ray's proxy passes no backpressure on: a client that runs further
ahead of the answers than ``ready`` allows is refused.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from typing import Any

from fastapi import APIRouter
from pydantic import ValidationError
from starlette.websockets import WebSocket, WebSocketDisconnect

from xmoe.audio.segment import Cutter, Grid, Segment
from xmoe.base.errors import XmoeError
from xmoe.serve.guard.auth import STREAM_PATH, check_origin
from xmoe.serve.guard.problems import HttpProblem, describe_error
from xmoe.serve.guard.tokens import Holder
from xmoe.serve.http.framing import PcmReader
from xmoe.serve.http.service import Service
from xmoe.serve.router.batching import QueueFull
from xmoe.serve.router.fanout import TooFewExperts
from xmoe.serve.schemas import ClassifyAnswer, StreamStart

LOG = logging.getLogger("xmoe.serve")
AT_ONCE = 4
SAMPLE_BYTES = 4
START_HINT = (
    'begin with {"sample_rate_hz": 16000, "encoding": "pcm_s16le", "hop_s": 0.5}, then send PCM'
)
CLOSE = {401: 1008, 403: 1008, 408: 1008, 413: 1009, 415: 1003, 429: 1013, 503: 1013, 500: 1011}
BAD_DATA = 1007
PASSING = (QueueFull, TooFewExperts)
LEFT_OUT = {"windows", "events", "explanation", "request_id", "segments", "seconds"}


def build_router(service: Service) -> APIRouter:
    """The streaming route, which counts open streams."""
    router = APIRouter()
    open_streams: set[Session] = set()

    @router.websocket(STREAM_PATH)
    async def stream(socket: WebSocket) -> None:
        """Answer for windows of PCM as it comes in."""
        await Session(socket, service, open_streams).run()

    return router


class Session:
    """One stream: a reader that keeps up with the client, and windows answered in order."""

    def __init__(self, socket: WebSocket, service: Service, others: set[Session]) -> None:
        self._socket = socket
        self._service = service
        self._others = others
        self._http = service.settings.http
        self._news = asyncio.Event()
        self._answered = 0
        self._ended = False
        self._failure: BaseException | None = None

    async def run(self) -> None:
        """Serve the stream until the client ends it, leaves, or is refused."""
        await self._socket.accept()
        try:
            async with asyncio.timeout(self._http.max_stream_s):
                self._check_room()
                start = await self._read_start()
                self._check_room()  # counted from here on: anybody may open a socket
                self._others.add(self)
                await self._talk(start)
            await self._socket.close(1000)
        except WebSocketDisconnect:
            return
        except TimeoutError:
            what = f"a stream lasts at most {self._http.max_stream_s:g} s"
            await self._tell(HttpProblem(503, "stream_over", what, hint="open another one"))
        except Exception as error:
            if not isinstance(error, (HttpProblem, XmoeError)):
                LOG.exception("a stream failed")
            await self._tell(describe_error(error))
        finally:
            self._others.discard(self)

    def _check_room(self) -> None:
        if len(self._others) >= self._http.max_streams:
            hint = "try again when another stream has ended"
            raise HttpProblem(429, "overloaded", "too many streams are open", hint=hint)

    async def _read_start(self) -> StreamStart:
        """The first message; HttpProblem where it or its token is not valid."""
        check_origin(self._socket, self._http.allow_origins)
        message = await self._receive(self._http.body_timeout_s)
        try:
            start = StreamStart.model_validate_json(message.get("text") or "")
        except ValidationError as error:
            first = error.errors(include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            what = f"{where}: {first['msg']}" if where else "the first message is not JSON"
            raise HttpProblem(422, "bad_start", what[:300], hint=START_HINT) from error
        let_in: Callable[[str], None] | None = self._socket.scope["state"].get("let_in")
        if let_in is not None:
            let_in(start.token or "")
        self._service.check_limits(start)
        return start

    async def _talk(self, start: StreamStart) -> None:
        spectro = self._service.router.config.spectro
        rate, hop_s = start.sample_rate_hz, start.hop_s or spectro.segment_hop_s
        grid = Grid.of(rate, segment_s=spectro.segment_s, hop_s=hop_s)
        cutter = Cutter(grid)
        room = self._http.max_stream_bytes // SAMPLE_BYTES
        most = max(min(room, round(self._http.max_ahead_s * rate)), grid.length + grid.hop)
        ready = {"type": "ready", "sample_rate_hz": rate, "window_samples": grid.length}
        ready |= {"hop_samples": grid.hop, "max_ahead_samples": most}
        await self._send(ready | {"request_id": self._socket.scope["state"].get("request_id", "")})
        reader = asyncio.create_task(self._read(PcmReader(start.encoding), cutter, most))
        try:
            await self._answer_segments(cutter, start)
        finally:
            reader.cancel()

    async def _read(self, pcm: PcmReader, cutter: Cutter, most: int) -> None:
        """Take messages until the stream ends or something is wrong with it."""
        try:
            while not self._ended:
                message = await self._receive(self._http.idle_timeout_s)
                if (piece := message.get("bytes")) is not None:
                    cutter.push(pcm.read(piece))
                    if cutter.ahead > most:
                        raise too_fast(most)
                else:
                    check_end(message.get("text") or "")
                    self._ended = True
                self._news.set()
        except Exception as error:  # the answering side reports it
            self._failure = error
            self._news.set()

    async def _answer_segments(self, cutter: Cutter, start: StreamStart) -> None:
        while True:
            if self._failure is not None:
                raise self._failure
            owed_s = self._owed_s()
            if not owed_s and (segments := list(islice(iter(cutter.take, None), AT_ONCE))):
                await self._answer(segments, start)
            elif not owed_s and self._ended:
                break
            else:
                with suppress(TimeoutError):
                    async with asyncio.timeout(owed_s or None):
                        await self._news.wait()
                self._news.clear()
        if (last := cutter.finish()) is not None:
            await self._answer([last], start)
        await self._send({"type": "done", "samples": cutter.received})

    def _owed_s(self) -> float:
        """Seconds until the token's quota allows more sound, 0 where it does already."""
        holder: Holder | None = self._socket.scope["state"].get("holder")
        return 0.0 if holder is None else holder.owed_s()

    async def _answer(self, segments: list[Segment], start: StreamStart) -> None:
        """Answer segments together and send their frames in order of time."""
        rate, came = start.sample_rate_hz, time.monotonic()
        options = start.options
        jobs = [self._service.classify_samples(s.samples, rate, options) for s in segments]
        for segment, said in zip(segments, await gather(jobs), strict=True):
            frame = {"index": self._answered, **place(segment)}
            frame["latency_ms"] = round((time.monotonic() - came) * 1000.0, 3)
            await self._send(frame | describe(said))
            self._answered += 1

    async def _receive(self, timeout_s: float) -> dict[str, Any]:
        try:
            async with asyncio.timeout(timeout_s):
                message = dict(await self._socket.receive())
        except TimeoutError as error:
            what = f"nothing came for {timeout_s:g} s"
            raise HttpProblem(408, "idle", what, hint="send without pauses, or end") from error
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1005))
        return message

    async def _send(self, frame: dict[str, Any]) -> None:
        """Send a frame; a client that takes none for the idle time is dropped."""
        try:
            async with asyncio.timeout(self._http.idle_timeout_s):
                await self._socket.send_text(json.dumps(frame))
        except TimeoutError as error:
            raise WebSocketDisconnect(1006, "takes no answers") from error

    async def _tell(self, problem: HttpProblem) -> None:
        """Send why the stream ends and close it; the client may have left already."""
        self._service.meter.note_refusal(problem.problem.code)
        body = problem.problem.model_dump(exclude={"request_id"})
        try:
            await self._send({"type": "error", **body})
            await self._socket.close(CLOSE.get(problem.status, BAD_DATA), problem.problem.code)
        except (WebSocketDisconnect, RuntimeError):
            LOG.info("a stream was given up before it could be told why")


async def gather(jobs: list[Any]) -> list[ClassifyAnswer | BaseException]:
    """Answers, and in their place the errors that concern one window alone."""
    found = await asyncio.gather(*jobs, return_exceptions=True)
    for said in found:
        if isinstance(said, BaseException) and not isinstance(said, PASSING):
            raise said
    return found


def describe(said: ClassifyAnswer | BaseException) -> dict[str, Any]:
    """The fields of an answer, or of a window's problem."""
    if isinstance(said, Exception):
        problem = describe_error(said).problem.model_dump(exclude={"request_id"})
        return {"type": "problem", **problem}
    assert isinstance(said, ClassifyAnswer)
    return {"type": "answer", **said.model_dump(mode="json", exclude=LEFT_OUT)}


def place(segment: Segment) -> dict[str, float]:
    """Where a segment lies, in samples and in seconds."""
    samples = {"start_sample": segment.start, "end_sample": segment.end}
    return samples | {"start_s": segment.start_s, "end_s": segment.end_s}


def check_end(text: str) -> None:
    """Raise HttpProblem for a text message other than the end of the stream."""
    try:
        kind = json.loads(text)["type"]
    except (ValueError, KeyError, TypeError):
        kind = None
    if kind != "end":
        hint = 'send PCM as binary messages, and {"type": "end"} at the end'
        raise HttpProblem(422, "bad_message", "an unknown message", hint=hint)


def too_fast(most: int) -> HttpProblem:
    return HttpProblem(
        429,
        "too_fast",
        f"more than {most} samples are waiting for answers",
        hint="wait for answers before sending more, or ask for a larger hop_s",
    )
