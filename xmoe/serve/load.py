"""A served run under load: ``python -m xmoe.serve.load URL FILE -c 32 -s 10`` -> one line of JSON.

Each of ``c`` clients holds one connection and sends the recording again as soon as it is answered;
a warm-up of two seconds is not counted.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
import urllib.parse
from collections import Counter
from pathlib import Path

import click
import numpy as np

WARM_UP_S = 2.0


class Load:
    """Clients that send one recording over and over."""

    def __init__(self, url: str, data: bytes, token: str | None = None) -> None:
        parts = urllib.parse.urlsplit(url)
        self._address = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._data = data
        self._headers = {"Content-Type": "application/octet-stream"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._lock = threading.Lock()
        self.latencies_ms: list[float] = []
        self.outcomes: Counter[str] = Counter()

    def run(self, clients: int, seconds: float) -> dict[str, object]:
        """Send from that many clients for that long; return what came of it."""
        start = time.monotonic() + WARM_UP_S
        threads = [
            threading.Thread(target=self._send_until, args=(start, start + seconds))
            for _ in range(clients)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = self.latencies_ms or [float("nan")]
        p50, p99 = np.percentile(found, [50, 99])
        return {
            "clients": clients,
            "per_second": round(len(self.latencies_ms) / seconds, 1),
            "p50_ms": round(float(p50), 1),
            "p99_ms": round(float(p99), 1),
            "outcomes": dict(self.outcomes),
        }

    def _send_until(self, start: float, end: float) -> None:
        connection = http.client.HTTPConnection(*self._address, timeout=60)
        while (began := time.monotonic()) < end:
            try:
                connection.request("POST", "/v1/classify", self._data, self._headers)
                reply = connection.getresponse()
                body = reply.read()
                outcome = str(reply.status)
                if reply.status == 200 and json.loads(body)["degraded"]:
                    outcome = "200 degraded"
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                outcome = type(error).__name__
            if began >= start:
                with self._lock:
                    self.outcomes[outcome] += 1
                    if outcome.startswith("200"):
                        self.latencies_ms.append((time.monotonic() - began) * 1000.0)
        connection.close()


@click.command()
@click.argument("url")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("-c", "--clients", type=click.IntRange(1, 512), default=1, show_default=True)
@click.option("-s", "--seconds", type=click.FloatRange(0.1), default=10.0, show_default=True)
@click.option("--token", envvar="XMOE_TOKEN", help="Taken from XMOE_TOKEN if left out.")
def main(url: str, file: Path, clients: int, seconds: float, token: str | None) -> None:
    """Send FILE to the service at URL from many clients at once."""
    load = Load(url, file.read_bytes(), token)
    click.echo(json.dumps(load.run(clients, seconds)))


if __name__ == "__main__":
    main()
