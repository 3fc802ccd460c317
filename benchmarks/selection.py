"""How much must an expert gain to be taken? Mixtures on sources left out of their search.

    python benchmarks/selection.py --data DIR --runs runs [--only fsdd-speaker esc10-1 ...]

``runs`` is what ``benchmarks/real_sets.py`` left behind without networks; the features of all
candidates are in it, and no recording is decoded again. Held-out answers of training and validation
clips are split by source into five parts. Experts are searched and weighed on four, the mixture
answers the fifth; the test split is not touched. A candidate is taken where it gains more than so
many standard errors over sources.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from real_sets import JOBS, SPARSE, Job

from xmoe.audio.dataset import load_dataset
from xmoe.base.files import read_json
from xmoe.base.progress import silent
from xmoe.mixture.promise_router import STEM_NAME
from xmoe.policy.families import list_families
from xmoe.run.folder import RunFile, RunFolder
from xmoe.training.closed import (
    SEARCH_CLIPS,
    ClosedJob,
    fit_all_heads,
    hold_out,
    measure_costs,
    read_targets,
    rightness,
)
from xmoe.training.ears import StemSpec
from xmoe.training.kernel_features import measure_features
from xmoe.training.pieces import spread
from xmoe.training.promise import fold_units
from xmoe.training.stack import HeldOut, select_experts

BARS = (2.0, 1.0, 0.5, 0.25, 0.0)
HEADER = "| set | test split | sources | " + " | ".join(
    f"{bar:g} SE: experts, log loss, % right" for bar in BARS
)


def hold_out_candidates(job: Job, data: Path, run: Path) -> tuple[HeldOut, dict[str, float]]:
    """Held-out answers of the stem and all candidates of a run, and the candidates' costs in ms."""
    folder = RunFolder(run)
    config = folder.read_config()
    dataset = load_dataset(data / job.folder, data / job.folder / job.manifest)
    rate_hz = int(read_json(folder.file(RunFile.CLOSED))["sample_rate_hz"])
    fit = ClosedJob(dataset, config.spectro, folder.file(RunFile.FEATURES), rate_hz)
    known = [*dataset.split("train"), *dataset.split("val")]
    specs, _ = list_families(config.spectro, num_clips=len(known))
    clips, stem = spread(known, SEARCH_CLIPS, fit.seed), StemSpec(spectro=config.spectro)
    features = measure_features(fit.source, clips, [stem, *specs])
    targets, plan, _, first = read_targets(fit, features, stem)
    features, heads = fit_all_heads(fit, features, specs, targets, silent, first=first)
    held = hold_out(heads, targets, plan.units[features.owners])
    return held, measure_costs(specs, fit, silent)


def judge(held: HeldOut, costs_ms: Mapping[str, float], bar: float) -> tuple[float, float, float]:
    """Mean number of experts, log loss and share right on parts that the search did not know."""
    folds = fold_units(held.units)
    taken, losses, right = [], np.zeros(len(folds)), np.zeros(len(folds))
    for fold in np.unique(folds):
        known, fresh = held.pick(folds != fold), held.pick(folds == fold)
        stack = select_experts(known, costs_ms, always=[STEM_NAME], least_se=bar).stack
        logits = stack.combine(fresh.logits)
        taken.append(len(stack.weights) - 1)
        losses[folds == fold] = fresh.losses(logits)
        right[folds == fold] = rightness(logits, fresh.rows, fresh.task)
    return statistics.mean(taken), float(losses.mean()), float(right.mean())


def main(arguments: Sequence[str] | None = None) -> None:
    """Judge every bar on every run and print the table with means over the sets."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--only", nargs="+", default=[j.name for j in JOBS if j.name != SPARSE])
    asked = parser.parse_args(arguments)
    print(f"{HEADER} |\n" + "|---" * (3 + len(BARS)) + "|")
    every: dict[str, list[list[tuple[float, float, float]]]] = {}
    for job in JOBS:
        if job.name not in asked.only:
            continue
        held, costs_ms = hold_out_candidates(job, asked.data, asked.runs / job.name)
        found = [judge(held, costs_ms, bar) for bar in BARS]
        every.setdefault("esc10" if job.folder == "esc10" else job.name, []).append(found)
        sources = len(np.unique(held.units))
        print(f"| {job.folder} | {job.asks} | {sources} | {' | '.join(map(_cell, found))} |")
    sets = np.array([np.mean(found, axis=0) for found in every.values()]).mean(axis=0)
    print(f"| mean over the sets | | | {' | '.join(map(_cell, sets))} |")


def _cell(found: Sequence[float]) -> str:
    count, loss, right = found
    return f"{count:.1f}, {loss:.3f}, {100 * right:.1f}"


if __name__ == "__main__":
    main()
