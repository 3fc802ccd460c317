"""Blocks of recordings -> their features on Ray, each block by whichever worker is free.

Workers write to the cache, which every node must see, and send back how many rows there are. One
function measures a block wherever that is, and blocks keep their order: however many workers there
are, every weight that is fitted is the same. A worker that dies leaves no torn file, and Ray gives
its block to another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from xmoe.base.progress import Progress, silent
from xmoe.jobs.session import fetch_on_node, node_here, ray_errors, ray_session
from xmoe.training.kernel_features import BlockRows, BlockTask, measure_block, run_here

# Below that many clips the loop ends before Ray's workers are up.
LOOP_MAX_CLIPS = 20_000


def run_features(tasks: Sequence[BlockTask], progress: Progress = silent) -> list[BlockRows]:
    """Measure blocks here, or on Ray where there are many recordings."""
    if sum(map(len, tasks)) <= LOOP_MAX_CLIPS:
        return run_here(tasks, progress)
    return run_with_ray(tasks, progress)


def run_with_ray(tasks: Sequence[BlockTask], progress: Progress = silent) -> list[BlockRows]:
    """Measure blocks on the Ray cluster at hand, or on a local one for the time it takes.

    Raises XmoeError where the job fails.
    """
    import ray

    total = sum(map(len, tasks))
    found: dict[int, BlockRows] = {}
    mend = "what was measured is kept: go on with --resume, or with --local to see more"
    with ray_session(), ray_errors("measuring features", mend=mend):
        measure = ray.remote(num_cpus=1)(_measure)
        home = node_here()
        waiting = {measure.remote(task, home): place for place, task in enumerate(tasks)}
        done = 0
        while waiting:
            (ready,), _ = ray.wait(list(waiting), num_returns=1)
            place = waiting.pop(ready)
            found[place] = ray.get(ready)
            done += len(tasks[place])
            progress("features", done, total)
    return [found[place] for place in range(len(tasks))]


def _measure(task: BlockTask, home: str) -> BlockRows:
    """What Ray runs; it ships what lives in a module that every worker can import."""
    return measure_block(replace(task, dataset=fetch_on_node(task.dataset, home)))
