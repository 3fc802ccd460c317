"""``python -m xmoe.jobs.sight PATH...``: does every node of the cluster see these paths?

The first step of a job that was submitted. Object stores are left to the command itself, which
names the address that it cannot read. Ends with 0, or with 2 and one line for each node and path.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from xmoe.jobs.session import ray_session

MEND = "mount it there under the same path, or use an s3:// or gs:// address"


def find_unseen(paths: Sequence[str]) -> list[tuple[str, str]]:
    """(node, path) for every local path that a node of the cluster does not see."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    local = [path for path in paths if "://" not in path]
    if not local:
        return []
    with ray_session():
        look = ray.remote(num_cpus=0)(missing_here)
        nodes = [node for node in ray.nodes() if node["Alive"]]
        asked = [
            look.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            ).remote(local)
            for node in nodes
        ]
        found: list[list[str]] = ray.get(asked)
    names = [str(node["NodeManagerAddress"]) for node in nodes]
    return [(name, path) for name, gone in zip(names, found, strict=True) for path in gone]


def missing_here(paths: Sequence[str]) -> list[str]:
    return [path for path in paths if not Path(path).exists()]


def main(paths: Sequence[str]) -> int:
    unseen = find_unseen(paths)
    for node, path in unseen:
        print(f"xmoe: {path}: node {node} does not see it", file=sys.stderr)  # noqa: T201
    if unseen:
        print(f"  to fix it: {MEND}", file=sys.stderr)  # noqa: T201
    return 2 if unseen else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
