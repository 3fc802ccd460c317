"""What does a deployment per expert cost? Eight ways to use one run, in one go on one machine.

    python benchmarks/serving.py --run RUN CLIP... [--clients 1 32] [--seconds 8] [--quick]

    distributed  ``xmoe serve``: a router and a deployment per expert
    naive        the same experts by Serve's defaults: one call per request and expert, K = all
    colocated    ``xmoe serve --topology colocated``: the experts inside the router
    baseline     the settings of ``deployments/baseline.yaml``: whole model, one recording at a time
    litserve     LitServe with the whole model, batches of up to 32
    asgi         the colocated service called in its own process, without a socket
    predict      ``Predictor.predict`` in one process, no server, recordings already decoded
    from_bytes   the same with decoding: what a service is sent, without the service

With one client each takes turns of a second with ``predict``, since the clock of a shared machine
may change by half within minutes; ``asgi`` and ``from_bytes`` do so call by call.

Each is a process tree of its own on loopback; only one runs at a time. All are sent the same clips
by the same clients over kept-alive connections, and answer with label and probabilities. CPU-ms
per request is user and system time of the whole tree, by psutil, over the requests in the timed
part; the client's own is told apart. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import psutil
from load import WARM_UP_S, Load

CONTENDERS = (
    "distributed",
    "naive",
    "colocated",
    "baseline",
    "litserve",
    "asgi",
    "from_bytes",
    "predict",
)
HERE = Path(__file__).resolve()
INSIDE = ("asgi", "from_bytes", "predict")
READY_WITHIN_S = 240.0
ROUND_S = 1.0
HEADINGS = (
    *("way", "clients", "p50 ms", "p99 ms", "answers/s", "CPU-ms", "client CPU-ms"),
    *("p50 over predict", "x naive", "x litserve"),
)


@dataclass(frozen=True)
class Figures:
    """One contender at one number of clients; times in milliseconds.

    ``over_predict_ms`` is how much longer its median takes than that of ``predict`` beside it.
    """

    name: str
    clients: int
    p50_ms: float
    p99_ms: float
    per_second: float
    cpu_ms: float
    client_cpu_ms: float
    outcomes: dict[str, int]
    over_predict_ms: float | None = None


def free_port() -> int:
    """Return a port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def command_of(name: str, run: Path, port: int, ingress: str = "haproxy") -> list[str]:
    """Return the command that starts a contender; ``ingress`` is for our own topologies."""
    if name in ("distributed", "colocated"):
        serve = "import sys; from xmoe.cli import main; sys.exit(main())"
        options = ["--port", str(port), "--topology", name, "--ingress", ingress]
        return [sys.executable, "-c", serve, "serve", str(run), *options]
    server = HERE.with_name("serving_peers.py")
    return [sys.executable, str(server), name, "--run", str(run), "--port", str(port)]


@contextmanager
def running(
    name: str, run: Path, port: int, target: Load, *, ingress: str = "haproxy"
) -> Iterator[psutil.Process]:
    """Start a contender, wait until it answers, and end it with all its children."""
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            command_of(name, run, port, ingress),
            stdout=said,
            stderr=said,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        tree = psutil.Process(process.pid)
        try:
            wait_ready(target, process)
            yield tree
        except RuntimeError:
            said.seek(0)
            sys.stderr.write(said.read().decode(errors="replace")[-4000:])
            raise
        finally:
            end_tree(tree, process)


def wait_ready(target: Load, process: subprocess.Popen[bytes]) -> None:
    """Return once a contender answers what it will be sent; RuntimeError where it never does."""
    end = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < end and process.poll() is None:
        if target.try_once() == "200":
            return
        time.sleep(0.5)
    raise RuntimeError("it did not come up")


def end_tree(tree: psutil.Process, process: subprocess.Popen[bytes]) -> None:
    """Ask a contender to stop, then kill what is left of its tree."""
    children = tree.children(recursive=True) if tree.is_running() else []
    process.send_signal(signal.SIGINT)
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
    for child in children:
        if child.is_running():
            child.kill()
    psutil.wait_procs(children, timeout=10)


def cpu_of(tree: psutil.Process) -> dict[tuple[int, float], float]:
    """Return CPU seconds by (process id, start) of a process and its descendants."""
    used = {}
    for process in [tree, *tree.children(recursive=True)]:
        try:
            times = process.cpu_times()
            used[(process.pid, process.create_time())] = times.user + times.system
        except psutil.NoSuchProcess:
            continue
    return used


def spent_s(before: dict[tuple[int, float], float], after: dict[tuple[int, float], float]) -> float:
    """Return the CPU seconds between two readings."""
    return sum(value - before.get(key, 0.0) for key, value in after.items())


def measure(name: str, tree: psutil.Process, target: Load, clients: int, seconds: float) -> Figures:
    """Load a contender and return what was seen; the warm-up is in neither time nor CPU."""
    readings: list[dict[tuple[int, float], float]] = []
    timer = threading.Timer(WARM_UP_S, lambda: readings.append(cpu_of(tree)))
    timer.start()
    found: dict[str, Any] = target.run(clients, seconds)
    after = cpu_of(tree)
    timer.join()
    answered = max(1, sum(found["outcomes"].values()))
    return Figures(
        name=name,
        clients=clients,
        p50_ms=found["p50_ms"],
        p99_ms=found["p99_ms"],
        per_second=found["per_second"],
        cpu_ms=1000.0 * spent_s(readings[0], after) / answered,
        client_cpu_ms=found["client_cpu_ms"],
        outcomes=found["outcomes"],
    )


def target_of(name: str, port: int, clips: Sequence[bytes]) -> Load:
    """Return the load for a contender: raw bodies, or base64 in JSON for LitServe."""
    url = f"http://127.0.0.1:{port}"
    if name != "litserve":
        return Load(url, clips)
    bodies = [json.dumps({"audio": base64.b64encode(clip).decode()}).encode() for clip in clips]
    return Load(url, bodies, path="/predict", content_type="application/json")


def measure_inside(name: str, run: Path, clips: Sequence[Path], seconds: float) -> Figures:
    """Return the figures of one of ``INSIDE`` in a process of its own, one caller."""
    command = [
        sys.executable,
        str(HERE.with_name("serving_peers.py")),
        name,
        "--run",
        str(run),
    ]
    command += ["--seconds", str(seconds), *map(str, clips)]
    told = subprocess.run(
        command, capture_output=True, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    found = json.loads(told.stdout.splitlines()[-1])
    return Figures(name, 1, client_cpu_ms=0.0, outcomes={}, **found)


class Beside:
    """``predict`` in a process of its own that works when it is told to, and waits otherwise."""

    def __init__(self, run: Path, clips: Sequence[Path]) -> None:
        server = str(HERE.with_name("serving_peers.py"))
        command = [sys.executable, server, "rounds", "--run", str(run), *map(str, clips)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )

    def p50_ms(self, seconds: float) -> float:
        """Return the median of a loop that lasts so long."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(seconds, file=self._process.stdin, flush=True)
        return float(self._process.stdout.readline())

    def __enter__(self) -> Self:
        self.p50_ms(ROUND_S)
        return self

    def __exit__(self, *failure: object) -> None:
        self._process.communicate()


def take_turns(
    name: str, tree: psutil.Process, target: Load, beside: Beside, seconds: float
) -> Figures:
    """Return the figures of one client that takes turns with ``predict``.

    ``over_predict_ms`` is the median over the turns, each compared with ``predict`` before and
    after it.
    """
    round_s = min(ROUND_S, seconds)
    target.run(1, round_s)
    target.forget()
    spent, over, rounds = 0.0, [], max(1, round(seconds / round_s))
    own_ms = beside.p50_ms(round_s)
    for _ in range(rounds):
        first, before = len(target.latencies_ms), cpu_of(tree)
        found: dict[str, Any] = target.run(1, round_s, warm_up_s=0.0)
        spent += spent_s(before, cpu_of(tree))
        earlier_ms, own_ms = own_ms, beside.p50_ms(round_s)
        over.append(np.median(target.latencies_ms[first:]) - (earlier_ms + own_ms) / 2)
    return Figures(
        name=name,
        clients=1,
        p50_ms=found["p50_ms"],
        p99_ms=found["p99_ms"],
        per_second=target.in_time / (rounds * round_s),
        cpu_ms=1000.0 * spent / max(1, target.outcomes.total()),
        client_cpu_ms=found["client_cpu_ms"],
        outcomes=found["outcomes"],
        over_predict_ms=float(np.median(over)),
    )


def print_table(rows: Sequence[Figures]) -> None:
    """Print all figures as a Markdown table with the ratios that matter."""
    at = {(row.name, row.clients): row for row in rows}
    print("| " + " | ".join(HEADINGS) + " |")
    print("|" + "---|" * len(HEADINGS))
    for row in rows:
        over = "-" if row.over_predict_ms is None else f"{row.over_predict_ms:+.1f}"
        cells = [row.name, row.clients, f"{row.p50_ms:.1f}", f"{row.p99_ms:.1f}"]
        cells += [f"{row.per_second:.1f}", f"{row.cpu_ms:.1f}", f"{row.client_cpu_ms:.2f}", over]
        for rival in ("naive", "litserve"):
            other = at.get((rival, row.clients))
            cells.append(
                f"{row.per_second / other.per_second:.2f}" if other and other.per_second else "-"
            )
        print("| " + " | ".join(map(str, cells)) + " |")
    strange = {f"{r.name} c={r.clients}": r.outcomes for r in rows if set(r.outcomes) - {"200"}}
    print(f"outcomes other than 200: {strange or 'none'}", flush=True)


def main() -> None:
    """Measure the contenders one after another and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("clips", type=Path, nargs="+")
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--ingress", choices=("haproxy", "python"), default="haproxy")
    parser.add_argument(
        "--quick", action="store_true", help="half a second each, 2 clients at most"
    )
    asked = parser.parse_args()
    clients = [min(c, 2) for c in asked.clients] if asked.quick else asked.clients
    seconds = 0.5 if asked.quick else asked.seconds
    bodies = [clip.read_bytes() for clip in asked.clips]
    machine = f"load average {os.getloadavg()[0]:.2f}, {os.cpu_count()} processors"
    print(f"{machine}, {len(bodies)} clips, {seconds:g} s each", flush=True)
    rows: list[Figures] = []
    for name in asked.only:
        if name in INSIDE:
            rows.append(measure_inside(name, asked.run, asked.clips, seconds))
            continue
        port = free_port()
        target = target_of(name, port, bodies)
        with running(name, asked.run, port, target, ingress=asked.ingress) as tree:
            for count in clients:
                load_it = target_of(name, port, bodies)
                if count == 1:
                    with Beside(asked.run, asked.clips) as beside:
                        rows.append(take_turns(name, tree, load_it, beside, seconds))
                else:
                    rows.append(measure(name, tree, load_it, count, seconds))
                print(f"  {rows[-1]}", file=sys.stderr, flush=True)
    print_table(rows)


if __name__ == "__main__":
    main()
