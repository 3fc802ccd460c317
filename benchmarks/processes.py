"""What the processes of a service cost: memory, and the time until they answer and are gone.

python benchmarks/processes.py RUN [--served]

Each is a fresh process that does what Ray's do: it imports Ray Serve, then the class of the replica
by the name of its module, and makes one. Prints a row for each: resident memory in MB, how much of
it is no page of a file (libraries are mapped once for all processes, this is paid by each), seconds
of CPU, and modules of xmoe. What else runs changes none of them much.

``--served`` starts `xmoe serve` instead, in each topology and behind each ingress: seconds until
a recording is answered, resident memory of the router, of an expert (the median) and of all that
was started, and seconds from SIGTERM until the command is gone. Only idle cores tell.
"""

from __future__ import annotations

import argparse
import io
import json
import socket
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import chaos
import numpy as np
import psutil
import soundfile

from xmoe.run.folder import RunFolder

CHILD = """
import importlib, json, sys, time
import psutil
import xmoe.serve.start.preload, ray.serve
module, kind, *given = json.loads(sys.argv[1])
if module:
    replica = getattr(importlib.import_module(module), kind)(*given)
memory = psutil.Process().memory_info()
ours = sum(name.partition(".")[0] == "xmoe" for name in sys.modules)
print(json.dumps([memory.rss / 1e6, (memory.rss - memory.shared) / 1e6, time.process_time(), ours]))
"""
TIMES = 3


def measure(*process: object) -> list[float]:
    """Return MB resident, MB in no file, seconds of CPU and modules of ours of a fresh process."""
    command = [sys.executable, "-c", CHILD, json.dumps(process)]
    found: list[float] = json.loads(subprocess.check_output(command, text=True))
    return found


def serve_once(run: Path, *options: str) -> str:
    """Serve a run until it has answered a recording, and return the row of it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    body, noise = io.BytesIO(), np.random.default_rng(0).normal(0.0, 0.1, 16_000)
    soundfile.write(body, noise, 16_000, format="WAV")
    began = time.monotonic()
    with chaos.served(run, port, *options) as child:
        connection = chaos.connect(child.url)
        answered = chaos.send(connection, "/v1/classify", body.getvalue(), 0.0)
        connection.close()
        first_s = time.monotonic() - began
        routers, experts = child.replicas("router"), child.replicas("expert-")
        everyone = [child.process, *child.process.children(recursive=True)]
        router_mb, expert_mb = median(map(resident_mb, routers)), [*map(resident_mb, experts)]
        all_mb = sum(map(resident_mb, everyone))
        child.process.terminate()
        asked = time.monotonic()
        child.process.wait(chaos.STOP_S)
        gone_s = time.monotonic() - asked
    each = f"{median(expert_mb):.0f}" if experts else "-"
    return (
        f"| {' '.join(options)} | {answered.status} | {first_s:.1f} | {router_mb:.0f} | {each} | "
        f"{len(experts)} | {all_mb:.0f} | {gone_s:.1f} |"
    )


def resident_mb(process: psutil.Process) -> float:
    """Return what a process holds, 0 where it has just ended."""
    try:
        return float(process.memory_info().rss) / 1e6
    except psutil.NoSuchProcess:
        return 0.0


def main() -> None:
    """Measure and print; of each process the one that took the least CPU."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("--served", action="store_true", help="start `xmoe serve` instead")
    asked = parser.parse_args()
    run = asked.run
    if asked.served:
        columns = "service | status | first answer s | router MB | expert MB | experts | all MB"
        print(f"| {columns} | gone s |\n|---|---|---|---|---|---|---|---|")
        for topology in ("distributed", "colocated"):
            for ingress in ("python", "haproxy"):
                options = ("--topology", topology, "--ingress", ingress)
                print(serve_once(Path(run), *options), flush=True)
        return
    expert = RunFolder(run).read_config().model.experts[0].name
    settings = {"run": run}
    processes: dict[str, tuple[object, ...]] = {
        "Ray Serve alone": ("", ""),
        "Ray Serve and torch": ("torch", "device", "cpu"),
        "an expert": ("xmoe.serve.experts.expert_replica", "ExpertReplica", settings, expert),
        "the router": ("xmoe.serve.start.router_replica", "RouterReplica", settings, {}),
    }
    print("| process | MB | of that in no file | CPU-s | modules |\n|---|---|---|---|---|")
    for label, process in processes.items():
        all_mb, own_mb, cpu_s, ours = min(
            (measure(*process) for _ in range(TIMES)), key=lambda f: f[2]
        )
        print(f"| {label} | {all_mb:.0f} | {own_mb:.0f} | {cpu_s:.1f} | {ours:.0f} |")


if __name__ == "__main__":
    main()
