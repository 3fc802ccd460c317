"""A set of recordings and seeds -> settings, spectrograms and one fitted mixture per seed.

Profile and policy are decided once for a set, by the project's own rules; the seeds differ in
weights, order and augmentation only. What is there already is kept: a mixture that was trained is
not trained again, one that was stopped goes on from its last checkpoint.

    OUT/set/       profile, policy, settings and the spectrograms of every split
    OUT/seed-<n>/  a run folder: settings, checkpoints and history
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from xmoe.base.config import RunConfig, TrainConfig
from xmoe.base.progress import Progress, silent
from xmoe.features.store import SpectrogramStore
from xmoe.pipeline.fit import (
    FitRequest,
    build_stores,
    decide,
    keep_readable,
    read_checked,
    resume_config,
    store_path,
)
from xmoe.run.folder import RunFile, RunFolder
from xmoe.training.session import TrainingJob, train_here

SET = "set"


@dataclass(frozen=True)
class SetRequest:
    """Which recordings, and where everything about them is kept.

    ``epochs`` follows from the size of the set unless given.
    """

    dataset_dir: Path
    out: Path
    metadata_csv: Path | None = None
    test_fold: int | None = None
    epochs: int | None = None
    policy: Literal["race", "rule"] = "race"


@dataclass(frozen=True)
class PreparedSet:
    """Settings, spectrograms by split, and which clips belong together."""

    folder: RunFolder
    config: RunConfig
    stores: Mapping[str, SpectrogramStore]
    groups: Mapping[str, str]


def prepare_set(request: SetRequest, *, progress: Progress = silent) -> PreparedSet:
    """Profile and decide, or take up what was decided; raises what ``fit`` raises."""
    folder = RunFolder(request.out / SET)
    fit = FitRequest(
        dataset_dir=request.dataset_dir,
        metadata_csv=request.metadata_csv,
        out_dir=folder.path,
        task=None,
        budget="accuracy",
        train=TrainConfig(epochs=request.epochs, device="cpu"),
        policy=request.policy,
        test_fold=request.test_fold,
        progress=progress,
    )
    dataset = read_checked(fit)
    if folder.file(RunFile.CONFIG).is_file():
        config = resume_config(folder, dataset, fit)
    else:
        config, dataset = decide(fit, folder, dataset)
    stores = build_stores(folder, dataset, config.spectro, progress=progress)
    readable = {clip_id for store in stores.values() for clip_id in store.clip_ids}
    kept = keep_readable(dataset, readable)
    groups = {example.clip_id: example.group_key for example in kept.examples}
    return PreparedSet(folder, config, stores, groups)


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
    job = TrainingJob(
        run=folder.path,
        config=config,
        train_store=store_path(prepared.folder, "train"),
        val_store=store_path(prepared.folder, "val"),
        resume=True,
    )
    train_here(job, progress)
    return folder


def is_trained(folder: RunFolder) -> bool:
    """Whether the run's last checkpoint is that of its last epoch."""
    if not folder.exists("last"):
        return False
    state = folder.load_state("last")
    return bool(state["epoch"] == state["epochs"])
