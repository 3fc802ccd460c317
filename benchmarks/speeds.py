"""Do copies at other speeds help on sources that nobody heard, and do held-out clips know?

    python benchmarks/speeds.py RUN [RUN ...] [--json FILE]

The heads of a run's stem and kernels are fitted anew to its training clips alone, without and with
the copies at 0.9 and 1.1 of the speed that it keeps, and answer its validation clips. Beside what
these say stands what held-out training clips say, by which ``xmoe train`` decides. No recording is
read: the runs are what ``benchmarks/real_sets.py`` left behind. A run that keeps no copies has no
row.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from heads import open_run

from xmoe.base.config import KernelsSpec
from xmoe.base.files import write_json
from xmoe.experts.ridge import Floats, Ints
from xmoe.mixture.promise_router import STEM_NAME
from xmoe.policy.race import mean_and_error
from xmoe.training.closed import hold_out, read_targets, rightness
from xmoe.training.ears import Spec, StemSpec
from xmoe.training.heads import Targets, fit_either, fit_scaled
from xmoe.training.stack import HeldOut, fit_stack

HEADER = (
    "| run | training clips held out: log loss without, with (difference) | validation clips: log "
    "loss without, with (difference) | % right without | with |\n" + "|---" * 5 + "|"
)


@dataclass(frozen=True)
class Mixture:
    """Losses [n] of the mixture's answers to training clips left out, with their sources [n].

    ``fresh`` [m] are losses of answers to clips that nothing was fitted to, ``right`` [m] how
    right these are.
    """

    held: Floats
    units: Ints
    fresh: Floats
    right: Floats


def pick_training(targets: Targets, training: Ints, *, copies: bool) -> tuple[Targets, Ints]:
    """The targets of the rows ``training``, and which rows of features belong to them."""
    kept = np.full(len(targets.rows), -1)
    kept[training] = np.arange(len(training))
    own = np.flatnonzero(kept[targets.copies] >= 0) if copies else np.empty(0, np.int64)
    picked = replace(
        targets.pick(training),
        judges=np.ones(len(training), dtype=bool),
        copies=kept[targets.copies[own]],
    )
    return picked, np.concatenate([training, len(targets.rows) + own])


def compare(path: Path) -> list[Mixture]:
    """A run's mixture without and with copies; nothing where the run keeps none."""
    config, features, job = open_run(path)
    if features.copied is None:
        return []
    stem = StemSpec(spectro=config.spectro)
    targets, plan, _, _ = read_targets(job, features, stem)
    specs: dict[str, Spec] = {STEM_NAME: stem}
    specs |= {one.name: one for one in config.model.experts if isinstance(one, KernelsSpec)}
    fresh = plan.val[features.owners]
    training, others = np.flatnonzero(~fresh), np.flatnonzero(fresh)
    units, found = plan.units[features.owners][training], []
    tables = {name: np.concatenate(list(features.to_fit(spec))) for name, spec in specs.items()}
    for copies in (False, True):
        own, rows = pick_training(targets, training, copies=copies)
        heads, said = {}, {}
        for name, table in tables.items():
            fit = fit_either if name == STEM_NAME else fit_scaled
            heads[name] = fit(lambda table=table, rows=rows: iter([table[rows]]), own)
            said[name] = heads[name].answer(table[others])
        held = hold_out(heads, own, units)
        stack = fit_stack(held, list(specs))
        new = HeldOut(said, targets.rows[others], plan.units[features.owners][others], job.task)
        answers = stack.combine(new.logits)
        losses = held.losses(stack.combine(held.logits))
        right = rightness(answers, new.rows, job.task)
        found.append(Mixture(losses, held.units, new.losses(answers), right))
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args(arguments)
    print(HEADER)
    record = {}
    for path in asked.runs:
        if not (found := compare(path)):
            continue
        alone, more = found
        held, error = mean_and_error(more.held - alone.held, alone.units)
        fresh = more.fresh.mean() - alone.fresh.mean()
        print(
            f"| {path.name} | {alone.held.mean():.3f}, {more.held.mean():.3f} ({held:+.3f} ± "
            f"{error:.3f}) | {alone.fresh.mean():.3f}, {more.fresh.mean():.3f} ({fresh:+.3f}) | "
            f"{100 * alone.right.mean():.1f} | {100 * more.right.mean():.1f} |"
        )
        record[path.name] = {"held": held, "error": error, "fresh": float(fresh)}
    if asked.json:
        write_json(asked.json, record)


if __name__ == "__main__":
    main()
