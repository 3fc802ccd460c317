"""A set of recordings and seeds -> settings, spectrograms and one fitted mixture per seed.

Profile and policy are decided once for a set, by the project's own rules; the seeds differ in
weights, order and augmentation only. What is there already is kept: a mixture that was trained is
not trained again, one that was stopped goes on from its last checkpoint.

    OUT/set/       profile, policy, settings and the spectrograms of every split
    OUT/seed-<n>/  a run folder: settings, checkpoints and history
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from xmoe.base.config import RunConfig
from xmoe.base.progress import Progress, silent
from xmoe.features.store import SpectrogramStore
from xmoe.pipeline.decide import decide
from xmoe.pipeline.fit import build_stores
from xmoe.pipeline.request import FitRequest
from xmoe.run.folder import RunFile, RunFolder
from xmoe.training.session import TrainingJob, train_here

SET = "set"


@dataclass(frozen=True)
class PreparedSet:
    """Settings, spectrograms by split, and which clips belong together."""

    folder: RunFolder
    config: RunConfig
    stores: Mapping[str, SpectrogramStore]
    groups: Mapping[str, str]


def prepare_set(request: FitRequest, *, progress: Progress = silent) -> PreparedSet:
    """Profile and decide, or take up what was decided; raises what ``fit`` raises."""
    folder = RunFolder(request.out_dir / SET)
    config, dataset = decide(folder, replace(request, resume=True), progress=progress)
    where = folder.file(RunFile.STORES)
    stores = build_stores(where, dataset, config.spectro, progress=progress)
    return PreparedSet(folder, config, stores, dataset.groups)


def train_seed(
    prepared: PreparedSet, out: Path, seed: int, *, progress: Progress = silent
) -> RunFolder:
    """Train one mixture of a set, or go on where it stopped; returns its run folder."""
    folder = RunFolder(out / f"seed-{seed}")
    config = prepared.config.model_copy(
        update={"train": prepared.config.train.model_copy(update={"seed": seed})}
    )
    if is_trained(folder):
        return folder
    folder.write_record(RunFile.CONFIG, config)
    stores = prepared.folder.file(RunFile.STORES)
    train_here(TrainingJob(folder.path, config, stores, resume=True), progress)
    return folder


def is_trained(folder: RunFolder) -> bool:
    """Whether the run's last checkpoint is that of its last epoch."""
    if not folder.exists("last"):
        return False
    state = folder.load_state("last")
    return bool(state["epoch"] == state["epochs"])
