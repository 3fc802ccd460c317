"""A run -> the memory of each process of its service, and what replicas should ask Ray for.

All processes run at once, as on a node: what is in files (libraries) is then shared and counted
once (PSS), and what each has of its own stands beside it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import median
from typing import Any

import psutil

from xmoe.base.config import Frozen
from xmoe.base.errors import ConfigError
from xmoe.run.remote import fetched
from xmoe.serve.settings import ServeSettings

ROUTER = "router"
EXPERT = "xmoe.serve.experts.expert_replica"
READY = "ready"
# Requests in work add this to the memory of a fresh process.
HEADROOM = 1.25
# Ray gives 30 % of a node's memory to its object store, and its own processes take some.
FOR_ACTORS = 0.65
# An expert that needs this many times the usual memory gets its own entry.
APART = 1.5
CHILD = """
import importlib, json, sys
import ray.serve
module, kind, *given = json.loads(sys.argv[1])
replica = getattr(importlib.import_module(module), kind)(*given)
print("ready", flush=True)
sys.stdin.read()
"""


class ProcessSize(Frozen):
    """Memory of one process in MB: resident, with its part of shared pages, and private."""

    name: str
    rss_mb: float
    pss_mb: float
    own_mb: float

    @property
    def asked_mb(self) -> float:
        """What a replica asks Ray for."""
        return round(self.pss_mb * HEADROOM, 0)


class Node(Frozen):
    """Processors and memory of one node."""

    cpus: float
    memory_mb: float


class Sizes(Frozen):
    """The processes of a service, and how many fit a node."""

    processes: tuple[ProcessSize, ...]
    node: Node
    sets_per_node: int
    replicas_per_node: int
    num_cpus: float
    settings: dict[str, Any]


def measure_sizes(run: str, node: Node) -> Sizes:
    """The memory of a run's processes, and settings for such nodes.

    ConfigError where a process ends before it is ready, or where a node has no room for one set of
    all processes.
    """
    settings = ServeSettings(run=run)
    with fetched(run, [], which=settings.which) as folder:
        names = folder.read_config().model.callable_experts
    given = settings.model_dump(mode="json")
    commands: dict[str, tuple[object, ...]] = {
        ROUTER: ("xmoe.serve.start.router_replica", "RouterReplica", given, {}),
        **{name: (EXPERT, "ExpertReplica", given, name) for name in names},
    }
    with all_alive(commands) as processes:
        found = tuple(weigh(name, process.pid) for name, process in processes.items())
    return fit_node(found, node)


@contextmanager
def all_alive(
    commands: Mapping[str, Sequence[object]],
) -> Iterator[dict[str, subprocess.Popen[str]]]:
    """Start the processes one after the other; all end on leaving."""
    processes: dict[str, subprocess.Popen[str]] = {}
    try:
        for name, command in commands.items():
            words = [sys.executable, "-c", CHILD, json.dumps(command)]
            process = subprocess.Popen(
                words,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            processes[name] = process
            assert process.stdout is not None
            if not any(line.strip() == READY for line in process.stdout):
                raise ConfigError(
                    f"the process of {name} ended before it was ready",
                    where=name,
                    mend="see why: xmoe serve RUN",
                )
        yield processes
    finally:
        for process in processes.values():
            process.kill()
            process.communicate()


def weigh(name: str, pid: int) -> ProcessSize:
    """The memory of a process now."""
    memory = psutil.Process(pid).memory_full_info()
    mb = {key: round(getattr(memory, key) / 1e6, 1) for key in ("rss", "pss", "uss")}
    return ProcessSize(name=name, rss_mb=mb["rss"], pss_mb=mb["pss"], own_mb=mb["uss"])


def fit_node(processes: Sequence[ProcessSize], node: Node) -> Sizes:
    """What fits a node: whole sets of router and experts, and expert replicas alone.

    ``num_cpus`` is a replica's part of the processors when the memory is full, so that Ray fills
    both at once.
    """
    room_mb = node.memory_mb * FOR_ACTORS
    one_set_mb = sum(process.asked_mb for process in processes)
    sets = int(room_mb // one_set_mb)
    experts = [process.asked_mb for process in processes if process.name != ROUTER]
    largest = max(process.asked_mb for process in processes)
    if room_mb < largest:
        raise ConfigError(
            f"a node has {room_mb:.0f} MB for actors, the largest process needs {largest:.0f}",
            where="node memory",
            mend="larger nodes, or fewer and smaller experts",
        )
    replicas = int(room_mb // median(experts)) if experts else sets
    num_cpus = round(min(1.0, max(0.05, node.cpus / max(replicas, 1))), 2)
    return Sizes(
        processes=tuple(processes),
        node=node,
        sets_per_node=sets,
        replicas_per_node=replicas,
        num_cpus=num_cpus,
        settings=_settings(processes, num_cpus),
    )


def _settings(processes: Sequence[ProcessSize], num_cpus: float) -> dict[str, Any]:
    router = next(process for process in processes if process.name == ROUTER)
    experts = [process for process in processes if process.name != ROUTER]
    found: dict[str, Any] = {"router": {"memory_mb": router.asked_mb}}
    if not experts:
        return found
    usual = median(process.asked_mb for process in experts)
    alike = [one.asked_mb for one in experts if one.asked_mb <= APART * usual]
    found["expert"] = {"memory_mb": max(alike), "num_cpus": num_cpus}
    apart = {
        one.name: {"memory_mb": one.asked_mb, "num_cpus": 1.0}
        for one in experts
        if one.asked_mb > APART * usual
    }
    return found | ({"experts": apart} if apart else {})
