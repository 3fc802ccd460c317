"""A set, seeds and arms -> every cell, the tables of the comparison and their picture.

Stages follow each other and each leaves its files, so that a study that was stopped goes on where
it ended and an arm that is added costs that arm alone.

    OUT/study.json      what must not change between calls
    OUT/ablation.json   tables with intervals, and what each arm is
    OUT/ablation.csv    the rows of the first table
    OUT/ablation.png    accuracy against mean K, differences, windows
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xmoe.ablation.arms import Arm
from xmoe.ablation.cells import (
    CONDITIONS,
    Sight,
    cell_path,
    make_cell,
    make_windows_cell,
    observe_seed,
    read_cell,
    read_curve,
    write_cell,
)
from xmoe.ablation.compare import (
    Curves,
    Resampler,
    compare_arms,
    compare_windows,
    deploy_arms,
    describe_arms,
    trace_curves,
)
from xmoe.ablation.draw import draw_study
from xmoe.ablation.trained import PreparedSet, prepare_set, train_seed
from xmoe.base.errors import ConfigError
from xmoe.base.files import read_json, write_bytes, write_json
from xmoe.base.progress import Progress, silent
from xmoe.pictures.style import to_png
from xmoe.pipeline.outcome import pick_groups
from xmoe.pipeline.request import FitRequest
from xmoe.run.folder import RunFolder
from xmoe.training.calibrate import NOISE_DB

WINDOWS = "windows"
COLUMNS = ("arm", "condition", "target", "accuracy", "low", "high")
DIFFERENCE = ("difference", "difference_low", "difference_high")


@dataclass(frozen=True)
class Study:
    """What is compared: a set, seeds, arms, and the budget that every router is fitted with.

    ``samples`` augmented crops are observed and ``steps`` batches of them fit a router.
    """

    set: FitRequest
    seeds: tuple[int, ...]
    arms: tuple[Arm, ...]
    steps: int = 300
    samples: int = 4096
    title: str = ""


def run_study(study: Study, *, progress: Progress = silent) -> dict[str, Any]:
    """Make what is missing, compare, write and return what ``ablation.json`` holds."""
    if not study.seeds:
        raise ConfigError("no seed to compare", where="--seeds", mend="name one or more: 0,1,2")
    check_same(study)
    prepared = prepare_set(study.set, progress=progress)
    for seed in study.seeds:
        fill_seed(study, prepared, seed, progress=progress)
    result = summarise(study, prepared)
    write_study(study, result)
    return result


def check_same(study: Study) -> None:
    """Note what every cell depends on; ConfigError where the folder holds other cells."""
    path = study.set.out_dir / "study.json"
    wanted = {
        "dataset": str(study.set.dataset_dir.resolve()),
        "metadata": study.set.metadata_csv and str(study.set.metadata_csv.resolve()),
        "test_fold": study.set.test_fold,
        "epochs": study.set.train.epochs,
        "steps": study.steps,
        "samples": study.samples,
    }
    if path.is_file():
        found = read_json(path)
        if differ := [name for name, value in wanted.items() if found.get(name) != value]:
            raise ConfigError(
                f"the folder holds a study with other settings for: {', '.join(differ)}",
                where=str(study.set.out_dir),
                mend="call it with the same settings, or name another folder with --out",
            )
    write_json(path, wanted)


def fill_seed(study: Study, prepared: PreparedSet, seed: int, *, progress: Progress) -> None:
    """Make the cells of one seed that are not there yet."""
    folder = RunFolder(study.set.out_dir / f"seed-{seed}")
    missing = [arm for arm in study.arms if not cell_path(folder, arm.name).is_file()]
    windows = cell_path(folder, WINDOWS)
    if not missing and windows.is_file():
        return

    def staged(stage: str, done: int, total: int | None = None, note: str = "") -> None:
        progress(f"seed {seed} {stage}", done, total, note)

    train_seed(prepared, study.set.out_dir, seed, progress=staged)
    sight = observe_seed(folder, prepared, samples=study.samples, progress=staged)
    fill_arms(study, folder, sight, missing, progress=staged)
    if not windows.is_file():
        reference = read_cell(cell_path(folder, study.arms[0].name))
        cell = make_windows_cell(sight, prepared.stores["test"], reference, progress=staged)
        write_cell(windows, cell)


def fill_arms(
    study: Study, folder: RunFolder, sight: Sight, missing: Sequence[Arm], *, progress: Progress
) -> None:
    """Fit the arms of one seed that are missing."""
    for done, arm in enumerate(missing, 1):
        write_cell(cell_path(folder, arm.name), make_cell(arm, sight, steps=study.steps))
        progress("arms", done, len(missing), arm.name)


def summarise(study: Study, prepared: PreparedSet) -> dict[str, Any]:
    """Return every table of the cells of a study."""
    folders = [RunFolder(study.set.out_dir / f"seed-{seed}") for seed in study.seeds]
    cells = {
        arm.name: [read_cell(cell_path(folder, arm.name)) for folder in folders]
        for arm in study.arms
    }
    curves: Curves = {
        name: {c: [read_curve(cell, c) for cell in own] for c in CONDITIONS}
        for name, own in cells.items()
    }
    resamplers = make_resamplers(prepared)
    windows = [read_cell(cell_path(folder, WINDOWS)) for folder in folders]
    right, whole = (
        np.stack([np.asarray(cell[name], np.float64) for cell in windows])
        for name in ("right", "whole")
    )
    first = cells[study.arms[0].name]
    best = np.stack([np.asarray(cell["test.best_single"], np.float64) for cell in first])
    return {
        "title": study.title or study.set.dataset_dir.name,
        "seeds": study.seeds,
        "steps": study.steps,
        "samples": study.samples,
        "clips": {split: len(store) for split, store in prepared.stores.items()},
        "resampled_units": resamplers["test"].units,
        "k_max": prepared.config.model.k_max,
        "experts": prepared.config.model.expert_names,
        "masked_experts": prepared.config.model.masked_experts,
        "arms": describe_arms(list(curves)),
        "equal_compute": compare_arms(curves, resamplers),
        "deployed": deploy_arms(curves, resamplers["test"]),
        "curves": trace_curves(curves, resamplers["test"]),
        "windows": compare_windows(right, whole, resamplers["test"]),
        "best_single_expert": resamplers["test"].estimate(best).as_dict(),
    }


def make_resamplers(prepared: PreparedSet) -> dict[str, Resampler]:
    """Return the resampler of each condition; copies of a clip are drawn together."""
    test = prepared.stores["test"]
    groups = pick_groups(test, prepared.groups)
    val = list(prepared.stores["val"].clip_ids) * (1 + len(NOISE_DB))
    both = Resampler(len(test), groups)
    return {"test": both, "noisy": both, "val": Resampler(len(val), val)}


def write_study(study: Study, result: Mapping[str, Any]) -> None:
    """Write tables and picture."""
    out: Path = study.set.out_dir
    write_json(out / "ablation.json", result)
    write_bytes(out / "ablation.csv", encode_rows(result["equal_compute"]))
    write_bytes(out / "ablation.png", to_png(draw_study(result)))


def encode_rows(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Return the rows of the first table as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow((*COLUMNS, *DIFFERENCE))
    for row in rows:
        figures = [
            f"{number:.5f}"
            for name in ("accuracy", "difference")
            for number in (row[name]["value"], *row[name]["ci"])
        ]
        writer.writerow((row["arm"], row["condition"], row["target"], *figures))
    return text.getvalue().encode()
