"""What the process of a replica costs: memory, and the CPU time until it can answer.

python benchmarks/processes.py RUN

Each is a fresh process that does what Ray's do: it imports Ray Serve, then the class of the replica
by the name of its module, and makes one. Prints a row for each: resident memory in MB, how much of
it is no page of a file (libraries are mapped once for all processes, this is paid by each), seconds
of CPU, and modules of xmoe. What else runs changes none of them much.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys

from xmoe.run.folder import RunFolder

CHILD = """
import importlib, json, sys, time
import psutil
import ray.serve
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


def main() -> None:
    """Measure and print; of each process the one that took the least CPU."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    run = parser.parse_args().run
    expert = RunFolder(run).read_config().model.experts[0].name
    settings = {"run": run}
    processes: dict[str, tuple[object, ...]] = {
        "Ray Serve alone": ("", ""),
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
