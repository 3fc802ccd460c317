"""A served run under load: requests per second, latencies and what came of them.

Each client holds one connection and sends the next recording as soon as the last is
answered; a warm-up is not counted. Requests are prepared and answers barely parsed, because on a
small machine a client that works hard measures itself instead of the server.
"""

from __future__ import annotations

import asyncio
import time
import urllib.parse
from collections import Counter
from collections.abc import Sequence

import numpy as np

WARM_UP_S = 2.0
ANSWER_WITHIN_S = 60.0
RAW = "application/octet-stream"


class Load:
    """Clients that send recordings over and over."""

    def __init__(
        self,
        url: str,
        bodies: bytes | Sequence[bytes],
        token: str | None = None,
        *,
        path: str = "/v1/classify",
        content_type: str = RAW,
    ) -> None:
        parts = urllib.parse.urlsplit(url)
        self._address = (parts.hostname or "127.0.0.1", parts.port or 80)
        head = f"POST {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: {content_type}\r\n"
        if token:
            head += f"Authorization: Bearer {token}\r\n"
        several = [bodies] if isinstance(bodies, bytes) else list(bodies)
        self._requests = [
            f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body for body in several
        ]
        self._next = 0
        self.latencies_ms: list[float] = []
        self.outcomes: Counter[str] = Counter()
        self.in_time = 0
        self.cpu_s = 0.0

    def run(
        self, clients: int, seconds: float, *, warm_up_s: float = WARM_UP_S
    ) -> dict[str, object]:
        """Send from that many clients for that long; the results so far.

        The first ``warm_up_s`` are not counted.
        """
        asyncio.run(self._run(clients, seconds, warm_up_s))
        found = self.latencies_ms or [float("nan")]
        p50, p99 = np.percentile(found, [50, 99])
        return {
            "clients": clients,
            "per_second": round(self.in_time / seconds, 1),
            "p50_ms": round(float(p50), 2),
            "p99_ms": round(float(p99), 2),
            "outcomes": dict(self.outcomes),
            "client_cpu_ms": round(1000.0 * self.cpu_s / max(1, self.outcomes.total()), 3),
        }

    def forget(self) -> None:
        self.latencies_ms.clear()
        self.outcomes.clear()
        self.in_time, self.cpu_s = 0, 0.0

    def try_once(self) -> str:
        """Send one recording on a new connection; its status, or what went wrong."""
        return asyncio.run(self._try_once())

    async def _try_once(self) -> str:
        outcome, link = await self._send(None, self._requests[0])
        if link is not None:
            link.close()
        return outcome

    async def _run(self, clients: int, seconds: float, warm_up_s: float) -> None:
        start = time.monotonic() + warm_up_s
        tasks = [
            asyncio.create_task(self._send_until(start, start + seconds)) for _ in range(clients)
        ]
        await asyncio.sleep(warm_up_s)
        before = time.process_time()
        await asyncio.gather(*tasks)
        self.cpu_s += time.process_time() - before

    async def _send_until(self, start: float, end: float) -> None:
        link: Link | None = None
        while (began := time.monotonic()) < end:
            request = self._requests[self._next % len(self._requests)]
            self._next += 1
            outcome, link = await self._send(link, request)
            ended = time.monotonic()
            self.in_time += outcome.startswith("200") and start <= ended < end
            if began >= start:
                self.outcomes[outcome] += 1
                if outcome.startswith("200"):
                    self.latencies_ms.append((ended - began) * 1000.0)
        if link is not None:
            link.close()

    async def _send(self, link: Link | None, request: bytes) -> tuple[str, Link | None]:
        """The status of a request, and the connection if it can be used again."""
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                link = link or await Link.open(self._address)
                return await link.ask(request), link
        except (OSError, EOFError, ValueError, TimeoutError) as error:
            if link is not None:
                link.close()
            return type(error).__name__, None


class Link:
    """One kept-alive connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, address: tuple[str, int]) -> Link:
        """Connect; OSError where nobody listens."""
        return cls(*await asyncio.open_connection(*address))

    async def ask(self, request: bytes) -> str:
        """Send a request; its status, with `` degraded`` where the answer says so."""
        self._writer.write(request)
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        status = head.split(b" ", 2)[1].decode()
        body = await self._read_body(head)
        is_degraded = status == "200" and b'"degraded":true' in body.replace(b" ", b"")
        return "200 degraded" if is_degraded else status

    async def _read_body(self, head: bytes) -> bytes:
        _, found, rest = head.partition(b"content-length:")
        if found:
            return await self._reader.readexactly(int(rest.split(b"\r\n", 1)[0]))
        if b"transfer-encoding: chunked" not in head:
            raise ValueError("an answer without a length")
        pieces = []
        while size := int(await self._reader.readuntil(b"\r\n"), 16):
            pieces.append(await self._reader.readexactly(size))
            await self._reader.readexactly(2)
        await self._reader.readexactly(2)
        return b"".join(pieces)

    def close(self) -> None:
        self._writer.close()
