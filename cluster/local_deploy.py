"""Releases of a run on a Ray cluster of this machine, from nothing, and nothing left behind.

    python cluster/local_deploy.py [--topology distributed] [--port 6500] [--keep DIR]

Makes a synthetic set and three runs: one as trained, one of another budget, one of labels that are
mixed up (or takes yours: --runs GOOD OTHER WORSE --data DIR). Starts a cluster as ``local_jobs.py``
does and shows: the first deploy; the gate, which refuses the run of mixed-up labels; a shadow,
ended by ``xmoe rollback``; a canary, promoted; a version that cannot be placed, which is taken back
by itself; and the way back to the first one. A client asks all the while and counts who answered,
and what was lost. What was started is stopped.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from local_jobs import HOST, call, local_cluster, say

from xmoe import Client, XmoeError

XMOE = [sys.executable, "-m", "xmoe"]
PAUSE_S = 0.2
NEVER_PLACED = {"topology": "colocated", "router": {"num_cpus": 1000.0}}


def make_runs(out: Path) -> tuple[Path, Path, Path]:
    """Make a set and train on it; returns runs as trained, of another budget, of mixed labels."""
    data, good, cheap, mixed = (out / name for name in ("set", "trained", "cheaper", "mixed"))
    env = dict(os.environ)
    snr = ["--snr=-6:12", "--duration", "1.0"]
    call("a set", [*XMOE, "synth", str(data), "--clips", "240", "--classes", "4", *snr, "-q"], env)
    train = [*XMOE, "train", "--dataset", str(data), "--local", "-q", "--out"]
    call("a run", [*train, str(good)], env)
    shutil.copytree(good, cheap)
    call("a cheaper one", [*XMOE, "calibrate", str(cheap), "--budget", "latency", "-q"], env)
    manifest = mix_labels(data / "metadata.csv", data / "mixed.csv")
    call("one of mixed labels", [*train, str(mixed), "--metadata", str(manifest)], env)
    return good, cheap, mixed


def mix_labels(manifest: Path, to: Path) -> Path:
    """Write a manifest whose training clips have each other's labels; test clips keep theirs."""
    with manifest.open(newline="") as file:
        rows = list(csv.DictReader(file))
    train = [row for row in rows if row["split"] != "test"]
    labels = [row["label"] for row in train]
    for row, label in zip(train, sorted(labels), strict=True):
        row["label"] = label
    with to.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return to


class Listener:
    """A client that sends the recordings over and over, and counts answers by run."""

    def __init__(self, address: str, recordings: Sequence[bytes]) -> None:
        self._client = Client(address, retries=0)
        self._recordings = recordings
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask_on)
        self.answers: Counter[str] = Counter()
        self.lost: list[str] = []

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Ask until the end."""
        self._thread.start()
        try:
            yield
        finally:
            self._stop.set()
            self._thread.join()

    def _ask_on(self) -> None:
        sent = 0
        while not self._stop.wait(PAUSE_S):
            try:
                answer = self._client.classify(self._recordings[sent % len(self._recordings)])
                self.answers[answer["run"]] += 1
            except XmoeError as error:
                self.lost.append(str(error))
            sent += 1

    def wait_for(self, more: int) -> None:
        """Wait until so many more answers came."""
        until = sum(self.answers.values()) + more
        while sum(self.answers.values()) < until and len(self.lost) < more:
            time.sleep(PAUSE_S)

    def tell(self) -> None:
        """Print what came so far."""
        told = ", ".join(f"{count} by {run}" for run, count in sorted(self.answers.items()))
        say(f"client    {told}; {len(self.lost)} lost")


def refused(title: str, command: Sequence[str], env: dict[str, str]) -> None:
    """Run a command that must fail, in sight."""
    say(f"\n== {title}\n$ {' '.join(command)}")
    code = subprocess.run(command, env=env, check=False).returncode
    if code not in (1, 2):
        raise SystemExit(f"{title} ended with exit code {code}, and not as it should")
    say(f"== {title}: exit code {code}, as it should")


def show(folder: Path, out: Path, options: argparse.Namespace) -> None:
    """Deploy, refuse, try, promote, take back and roll back."""
    env = dict(os.environ)
    good, cheap, mixed = [run.resolve() for run in options.runs or make_runs(out)]
    data = options.data or out / "set"
    where = ["--registry", str(out / "registry"), "--address", f"{HOST}:{options.port}"]
    port = options.port + 48
    deploy = [*XMOE, "deploy", *where]
    first = [str(good), "--topology", options.topology, "--port", str(port), "--why", "the first"]
    with local_cluster(folder, options.port, options.cpus) as own:
        env = env | own
        call("the first version", [*deploy, *first], env)
        recordings = [path.read_bytes() for path in sorted(data.rglob("*.wav"))[:40]]
        listener = Listener(f"http://{HOST}:{port}/xmoe", recordings)
        with listener.asking():
            refused("the gate", [*deploy, str(mixed)], env)
            call("a shadow", [*deploy, str(cheap), "--shadow", "--why", "is it as good?"], env)
            listener.wait_for(30)
            call("what came of it", [*XMOE, "versions", *where, "--trial"], env)
            call("its end", [*XMOE, "rollback", *where], env)
            listener.tell()
            call("a canary", [*deploy, str(cheap), "--canary", "25%", "--why", "cheaper"], env)
            listener.wait_for(40)
            listener.tell()
            call("promoted", [*XMOE, "promote", *where], env)
            listener.wait_for(10)
            listener.tell()
            file = out / "never-placed.json"
            file.write_text(json.dumps(NEVER_PLACED))
            late = [str(good), "--settings", str(file), "--within", "20"]
            refused("taken back by itself", [*deploy, *late], env)
            listener.tell()
            call("back to the first", [*XMOE, "rollback", *where, "--why", "as before"], env)
            listener.wait_for(10)
            listener.tell()
        call("what was deployed", [*XMOE, "versions", *where], env)
    if listener.lost:
        raise SystemExit(f"{len(listener.lost)} requests were lost: {listener.lost[0]}")


def main() -> int:
    """Do it from nothing and clean up."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--topology", choices=["colocated", "distributed"], default="colocated")
    parser.add_argument("--port", type=int, default=6500, help="The first of fifty.")
    parser.add_argument("--cpus", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--keep", type=Path, help="A new folder for runs and registry.")
    parser.add_argument("--runs", type=Path, nargs=3, help="A good run, another, a worse one.")
    parser.add_argument("--data", type=Path, help="WAV files to ask about; needed with --runs.")
    options = parser.parse_args()
    if options.runs and not options.data:
        parser.error("--runs needs --data")
    folder = Path(tempfile.mkdtemp(prefix="xr-"))  # short: Ray's sockets lie below it
    try:
        out = (options.keep or folder / "out").absolute()
        out.mkdir(parents=True, exist_ok=True)
        show(folder, out, options)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
