"""From nothing to answers on a Ray cluster of this machine, and nothing left behind.

    python cluster/local_jobs.py [--data DIR] [--epochs 3] [--port 6400] [--keep DIR]

Starts ``ray start --head`` with token authentication (a new token in a file that only you can
read, every listener on loopback), hands in profile, train, eval and infer with ``ray job submit``,
and infer once more with ``xmoe submit``, which finds everything done. Without ``--data`` a
synthetic set is made. It stops what it started, by process id, and never calls ``ray stop``, which
would end other clusters of this machine too. Everything lies in one temporary folder that is
removed, unless ``--keep`` names another for run and answers.
"""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

HOST = "127.0.0.1"
START_S = 120.0
STOP_S = 30.0
ROOT = Path(__file__).resolve().parents[1]


def say(text: str) -> None:
    """Print one line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def write_token(folder: Path) -> Path:
    """Write a new token that only this user can read."""
    path = folder / "token"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as handle:
        handle.write(secrets.token_hex(32))
    return path


def make_environment(token: Path, dashboard: str) -> dict[str, str]:
    """Return the environment of the cluster and of everyone who talks to it."""
    own = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_API_SERVER_ADDRESS": dashboard,
        "RAY_USAGE_STATS_ENABLED": "0",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
    }
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return {**kept, **own}


def head_command(temporary: Path, port: int, cpus: int) -> list[str]:
    """Return the command of a head whose listeners are all on loopback, from ``port`` on."""
    ray = str(Path(sys.executable).with_name("ray"))
    numbers = iter(range(port + 1, port + 20))
    named = (
        "ray-client-server-port",
        "dashboard-port",
        "dashboard-agent-listen-port",
        "dashboard-agent-grpc-port",
        "runtime-env-agent-port",
        "metrics-export-port",
        "node-manager-port",
        "object-manager-port",
        "min-worker-port",
    )
    ports = [f"--{name}={next(numbers)}" for name in named]
    return [
        ray,
        "start",
        "--head",
        "--block",
        f"--port={port}",
        f"--node-ip-address={HOST}",
        f"--dashboard-host={HOST}",
        "--include-dashboard=true",
        f"--temp-dir={temporary}",
        f"--num-cpus={cpus}",
        *ports,
        f"--max-worker-port={port + 45}",
        "--disable-usage-stats",
    ]


@contextmanager
def local_cluster(folder: Path, port: int, cpus: int) -> Iterator[dict[str, str]]:
    """Start a head, give the environment that reaches it, and stop all that it started."""
    dashboard = f"http://{HOST}:{port + 2}"
    env = make_environment(write_token(folder), dashboard)
    log = folder / "head.log"
    with log.open("wb") as handle:
        head = subprocess.Popen(
            head_command(folder / "ray", port, cpus),
            env=env,
            stdout=handle,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_until_up(head, env, log)
        say(f"cluster   {dashboard} (token authentication, process {head.pid})")
        yield env
    finally:
        stop_tree(head)
        say("stopped   the cluster and every process that it started")


def wait_until_up(head: subprocess.Popen[bytes], env: dict[str, str], log: Path) -> None:
    """Wait until the job server answers with the token; SystemExit with the log where it ends."""
    deadline = time.monotonic() + START_S
    listing = [sys.executable, "-m", "ray.scripts.scripts", "job", "list"]
    while time.monotonic() < deadline:
        if head.poll() is not None:
            raise SystemExit(f"ray start ended with {head.returncode}:\n{log.read_text()[-2000:]}")
        if subprocess.run(listing, env=env, capture_output=True, check=False).returncode == 0:
            return
        time.sleep(1.0)
    raise SystemExit(f"the cluster was not up within {START_S:.0f} s:\n{log.read_text()[-2000:]}")


def stop_tree(head: subprocess.Popen[bytes]) -> None:
    """Stop a head and its descendants: asked first, then killed, each by its own id."""
    try:
        tree = psutil.Process(head.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        tree = []
    head.terminate()
    try:
        head.wait(STOP_S)
    except subprocess.TimeoutExpired:
        head.kill()
        head.wait()
    for process in psutil.wait_procs(tree, timeout=STOP_S)[1]:
        process.kill()


def call(title: str, command: Sequence[str], env: dict[str, str]) -> None:
    """Run one command in sight; SystemExit where it fails."""
    say(f"\n== {title}\n$ {' '.join(command)}")
    began = time.monotonic()
    code = subprocess.run(command, env=env, check=False).returncode
    if code:
        raise SystemExit(f"{title} ended with exit code {code}")
    say(f"== {title}: done in {time.monotonic() - began:.0f} s")


def run_jobs(env: dict[str, str], data: Path, out: Path, epochs: int) -> None:
    """Profile, train, evaluate and infer on the cluster, and infer once more."""
    python = sys.executable
    ray_job = [python, "-m", "ray.scripts.scripts", "job", "submit", "--working-dir", str(ROOT)]
    xmoe = [*ray_job, "--", python, "-m", "xmoe"]
    dataset = ["--dataset", str(data)]
    run, answers = str(out / "run"), ["--output", str(out / "preds")]
    infer = ["infer", run, "--input", str(data), *answers, "--engine", "ray"]
    call("profile", [*xmoe, "profile", str(data), "--out", str(out / "profile"), "-q"], env)
    train = ["train", *dataset, "--out", run, "--epochs", str(epochs), "-q"]
    call("train", [*xmoe, *train], env)
    call("eval", [*xmoe, "eval", run, *dataset, "-q"], env)
    call("infer", [*xmoe, *infer, "-q"], env)
    call("infer by xmoe submit: all is done", [python, "-m", "xmoe", "submit", *infer], env)


def main() -> int:
    """Do it from nothing and clean up."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--data", type=Path, help="A data set; a synthetic one if left out.")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--port", type=int, default=6400, help="The first of fifty.")
    parser.add_argument("--cpus", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--keep", type=Path, help="A new folder for run and answers.")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="xr-"))  # short: Ray's sockets lie below it
    try:
        out = (options.keep or folder / "out").absolute()
        out.mkdir(parents=True, exist_ok=True)
        with local_cluster(folder, options.port, options.cpus) as env:
            data = options.data
            if data is None:
                data = folder / "set"
                make = [sys.executable, "-m", "xmoe", "synth", str(data), "--clips", "400"]
                call("a synthetic set", make, env)
            run_jobs(env, data.resolve(), out, options.epochs)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
