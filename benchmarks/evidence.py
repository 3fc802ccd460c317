"""What does the router of a mixture in closed form read, and what is each part of it worth?

    python benchmarks/evidence.py RUN [RUN ...] [--json FILE]

For each run the promises are fitted anew on its held-out answers, each time with a part of the
evidence hidden: saliency, recording conditions, the stem's own answer; or with the saliency of
another clip; and once fitted to plain right or wrong. Sources that are judged were never fitted on.
Every arm is compared at the same mean milliseconds, between two prices by taking each for a share
of the segments. ``nothing`` knows how often each number of experts is right and no more, which is
to spend blindly. No recording is read: the runs are what ``benchmarks/real_sets.py`` left behind.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from xmoe.base.files import read_json, write_json
from xmoe.base.task import task_of
from xmoe.experts.ridge import Floats
from xmoe.glance.evidence import NUM_CONDITIONS
from xmoe.mixture.promise_router import GLANCED
from xmoe.policy.race import mean_and_error
from xmoe.run.folder import RunFile, RunFolder
from xmoe.training.closed import stack_depths
from xmoe.training.promise import Depths
from xmoe.training.promises import HeldTable, promise, read_table
from xmoe.training.reading import hide, read

SHARES = (0.2, 0.35, 0.5)
BELIEF, CONDITIONS = slice(0, GLANCED.start), slice(-NUM_CONDITIONS, None)
SALIENCY = slice(GLANCED.start, -NUM_CONDITIONS)


def exchange_saliency(depths: Depths) -> Depths:
    """Return depths with each row's saliency that of another row."""
    other = np.random.default_rng(0).permutation(len(depths.right))
    tables = [table.copy() for table in depths.evidence]
    for table in tables:
        table[:, SALIENCY] = table[other, SALIENCY]
    return replace(depths, evidence=tuple(tables))


ARMS: dict[str, Callable[[Depths], Depths]] = {
    "everything": hide,
    "without saliency": partial(hide, parts=[SALIENCY]),
    "saliency of another clip": exchange_saliency,
    "without conditions": partial(hide, parts=[CONDITIONS]),
    "answers alone": partial(hide, parts=[GLANCED]),
    "saliency alone": partial(hide, parts=[BELIEF, CONDITIONS]),
    "nothing": partial(hide, parts=[slice(None)]),
}
HARD = "everything, fitted to right or wrong"


def read_depths(run: Path) -> Depths:
    """Return what is known of a run's held-out segments after 0, 1, ... experts."""
    folder = RunFolder(run)
    model = folder.read_config().model
    table: HeldTable = read_table(
        folder.mixture_file(RunFile.HELD_OUT), model.expert_names, task_of(model.task)
    )
    rows = read_json(folder.file(RunFile.CLOSED))["candidates"]
    ms = {row["name"]: float(row["ms"]) for row in rows}
    return promise(table, stack_depths(table.hold(), table.experts), ms).depths


def judge(run: Path) -> dict[str, list[list[float]]]:
    """Return rightness, loss against everything and its standard error, by arm and share."""
    depths, found = read_depths(run), {}
    reference: Floats | None = None
    seen = {name: arm(depths) for name, arm in ARMS.items()}
    for name, one in (seen | {HARD: replace(depths, softened=None)}).items():
        own = read(one).rights_at(SHARES)
        reference = own if reference is None else reference
        found[name] = [
            [float(right.mean()), *mean_and_error(right - best, depths.units)]
            for right, best in zip(own, reference, strict=True)
        ]
    return found


def table_of(found: dict[str, dict[str, list[list[float]]]]) -> str:
    """Return the mean over runs as Markdown: per cent right, and points less than everything."""
    heads = [f"at {share:.0%} of the experts' ms" for share in SHARES]
    lines = ["| what the router reads | " + " | ".join(heads) + " |", "|---" * 4 + "|"]
    for name in (*ARMS, HARD):
        cells = []
        for place in range(len(SHARES)):
            rows = np.array([arms[name][place] for arms in found.values()])
            error = 100.0 * np.sqrt(np.square(rows[:, 2]).sum()) / len(rows)
            mean, less = 100.0 * rows[:, 0].mean(), 100.0 * rows[:, 1].mean()
            cells.append(
                f"{mean:.1f}" + ("" if name == "everything" else f" ({less:+.1f} ± {error:.1f})")
            )
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--json", type=Path, dest="to")
    options = parser.parse_args(arguments)
    found = {}
    for run in options.runs:
        found[run.name] = judge(run)
        print(run.name, {name: round(rows[1][0], 4) for name, rows in found[run.name].items()})
    print(table_of(found))
    if options.to:
        write_json(options.to, found)


if __name__ == "__main__":
    main()
