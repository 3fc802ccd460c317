"""A served run in a child process, clients that account for every request, and faults.

What the benchmarks of serving and the slow tests of faults share. A fault is a signal, and it only
ever reaches descendants of this process: see ``strike``.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import numpy as np
import psutil

START_S = 120.0
STOP_S = 60.0
ANSWER_S = 60.0


@dataclass(frozen=True)
class Answered:
    """What came of one request: when it was sent (seconds since the start), and its answer.

    ``status`` is that of HTTP, or the name of the exception where there was no answer.
    """

    at_s: float
    ms: float
    status: int | str
    missing: tuple[str, ...] = ()
    retry_after: str | None = None


@dataclass
class Clients:
    """Clients that each send the next recording when the last is answered, after a pause."""

    url: str
    bodies: Sequence[bytes]
    query: Mapping[str, Any] = field(default_factory=dict)
    pause_s: float = 0.0
    sent: int = 0
    answers: list[Answered] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.began = time.monotonic()
        self._path = f"/v1/classify?{urlencode(self.query)}"
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def add(self, clients: int) -> None:
        """Let that many more clients begin."""
        for _ in range(clients):
            thread = threading.Thread(target=self._send_on)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """Let every client hear its last answer, and end."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    def _send_on(self) -> None:
        connection = connect(self.url)
        while not self._stop.is_set():
            with self._lock:
                body = self.bodies[self.sent % len(self.bodies)]
                self.sent += 1
            answered = send(connection, self._path, body, self.began)
            with self._lock:
                self.answers.append(answered)
            self._stop.wait(self.pause_s)
        connection.close()


def connect(url: str) -> HTTPConnection:
    """Return a connection, which opens at its first request."""
    parts = urlsplit(url)
    return HTTPConnection(parts.hostname or "127.0.0.1", parts.port, timeout=ANSWER_S)


def send(connection: HTTPConnection, path: str, body: bytes, began: float) -> Answered:
    """Return what came of one request."""
    sent = time.monotonic()
    missing: tuple[str, ...] = ()
    status: int | str
    retry_after = None
    try:
        connection.request("POST", path, body, {"Content-Type": "application/octet-stream"})
        reply = connection.getresponse()
        status, data = reply.status, reply.read()
        retry_after = reply.headers.get("Retry-After")
        if status == 200:
            missing = tuple(json.loads(data)["missing_experts"])
    except (OSError, HTTPException) as error:
        connection.close()
        status = type(error).__name__
    return Answered(sent - began, 1000.0 * (time.monotonic() - sent), status, missing, retry_after)


@contextmanager
def clients(
    url: str, bodies: Sequence[bytes], number: int, *, pause_s: float = 0.0, **query: object
) -> Iterator[Clients]:
    """Keep that many clients busy; afterwards every request has been answered or has failed."""
    load = Clients(url, bodies, query, pause_s)
    load.add(number)
    try:
        yield load
    finally:
        load.stop()


def summarise(load: Clients) -> dict[str, Any]:
    """Return counts by status, latencies of the answers and their degraded share."""
    good = [answer for answer in load.answers if answer.status == 200]
    p50, p99, most = np.percentile([a.ms for a in good] or [float("nan")], [50, 99, 100])
    statuses = sorted({str(answer.status) for answer in load.answers})
    return {
        "sent": load.sent,
        "answered": len(load.answers),
        "statuses": {s: sum(str(a.status) == s for a in load.answers) for s in statuses},
        "degraded_share": round(sum(bool(a.missing) for a in good) / max(1, len(good)), 4),
        "missing": sorted({name for answer in good for name in answer.missing}),
        "p50_ms": round(float(p50), 1),
        "p99_ms": round(float(p99), 1),
        "max_ms": round(float(most), 1),
    }


@dataclass(frozen=True)
class Child:
    """``xmoe serve`` in a process of its own, and its address."""

    process: psutil.Popen
    url: str

    def get(self, path: str) -> Any:
        """Return what a route answers, as JSON."""
        with urllib.request.urlopen(self.url + path, timeout=ANSWER_S) as reply:
            return json.load(reply)

    def replicas(self, deployment: str) -> list[psutil.Process]:
        """Return the processes of a deployment's replicas: the child's own descendants."""
        wanted = f"ray::ServeReplica:xmoe:{deployment}"
        found = []
        for process in self.process.children(recursive=True):
            try:
                if any(word.startswith(wanted) for word in process.cmdline()):
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.ZombieProcess):
                continue
        return found

    def running(self, expert: str) -> int:
        """Return how many replicas of an expert Serve says are running."""
        found = self.get("/v1/experts")["experts"]
        return sum(e["replicas"]["running"] for e in found if e["name"] == expert and e["replicas"])


@contextmanager
def served(run: Path | str, port: int, *options: str) -> Iterator[Child]:
    """Serve a run in a child; afterwards it has ended, and everything that it started too."""
    command = [sys.executable, "-m", "xmoe", "serve", str(run), "--port", str(port), *options]
    with tempfile.TemporaryFile("w+") as told:
        process = psutil.Popen(
            command, stdout=told, stderr=subprocess.STDOUT, start_new_session=True
        )
        child = Child(process, f"http://127.0.0.1:{port}")
        try:
            wait_ready(child)
            yield child
        except BaseException:
            told.seek(0)
            sys.stderr.write(told.read())
            raise
        finally:
            end(process)


def wait_ready(child: Child) -> None:
    """Wait until every expert of a child answers; RuntimeError where that takes too long."""
    until = time.monotonic() + START_S
    while time.monotonic() < until and child.process.poll() is None:
        try:
            if child.get("/readyz")["ready"]:
                return
        except (OSError, HTTPException):  # nobody listens yet, or not all experts answer
            time.sleep(0.3)
    raise RuntimeError(f"xmoe serve was not ready within {START_S:g} s")


def end(process: psutil.Popen) -> None:
    """Ask a child to end; kill what is left of it and its descendants when it takes too long."""
    if process.poll() is not None:
        return
    family = process.children(recursive=True)
    process.terminate()
    try:
        process.wait(STOP_S)
    except psutil.TimeoutExpired:
        process.kill()
        process.wait()
    for left in psutil.wait_procs(family, timeout=10.0)[1]:
        left.kill()


def strike(victim: psutil.Process, number: signal.Signals = signal.SIGKILL) -> None:
    """Send a signal to a descendant of this process; AssertionError for any other.

    The start time that psutil compares before it sends keeps a reused number from being hit.
    """
    ours = {parent.pid for parent in victim.parents()}
    assert os.getpid() in ours, f"process {victim.pid} is not a descendant of this one"
    victim.send_signal(number)


def strike_all(victims: Sequence[psutil.Process], number: signal.Signals = signal.SIGKILL) -> int:
    """Send a signal to descendants; return how many were still there to receive it."""
    hit = 0
    for victim in victims:
        try:
            strike(victim, number)
            hit += 1
        except psutil.NoSuchProcess:
            continue
    return hit
