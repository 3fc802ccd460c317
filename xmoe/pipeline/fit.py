"""A folder of labelled recordings -> a run folder with a classifier that was chosen for them.

The stages follow each other and each leaves its record in the run folder before the next begins, so
that a stopped run resumes where its records end: decide, then fit in closed form, evaluate, report,
train a network beside it; or spectrograms, train, calibrate, evaluate, report.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from xmoe.audio.dataset import SPLITS, Dataset
from xmoe.base.config import BackboneSpec, RunConfig, SpectroConfig
from xmoe.base.errors import ConfigError, DatasetError
from xmoe.base.files import storage_errors
from xmoe.base.progress import Progress, silent
from xmoe.features.store import SpectrogramStore, build_store, matches, open_store
from xmoe.frontend.registry import build_frontend
from xmoe.pipeline.closed import fit_closed_run
from xmoe.pipeline.decide import decide
from xmoe.pipeline.network import add_network, judged_row
from xmoe.pipeline.outcome import calibrate_run, evaluate_closed_run, evaluate_run
from xmoe.pipeline.refit import keep_features
from xmoe.pipeline.reporting import try_report
from xmoe.pipeline.request import FitRequest, Offered
from xmoe.predict.samples import write_samples
from xmoe.run.folder import RunFile, RunFolder
from xmoe.training.session import TrainingJob


def fit_run(request: FitRequest, *, progress: Progress = silent) -> RunFolder:
    """Fit, calibrate and evaluate; returns the run folder.

    Raises DatasetError for data that cannot be trained on, ConfigError for settings that cannot
    hold, StorageError where the run folder cannot be written.
    """
    folder = RunFolder(request.out_dir)
    check_vacant(folder, resume=request.resume)
    made = not folder.path.exists()
    with storage_errors(folder.path):
        folder.path.mkdir(parents=True, exist_ok=True)
    try:
        with folder.changing():
            _fit(folder, request, progress)
    finally:
        if made and not any(folder.path.iterdir()):  # what was refused leaves nothing behind
            folder.path.rmdir()
    return folder


def _fit(folder: RunFolder, request: FitRequest, progress: Progress) -> None:
    config, dataset = decide(folder, request, progress=progress)
    request = replace(request, backbones=offer_backbones(folder, request))
    if config.train.fit == "gradient":
        fit_by_gradient(folder, config, dataset, request, progress)
    else:
        fit_in_closed_form(folder, config, dataset, request, progress)
        if config.train.fit == "both":
            try_report(folder.path, progress=progress)
            go_on_by_gradient(folder, config, dataset, request, progress)
        clear(folder)
    if request.samples:
        write_samples(folder, dataset)
    else:  # of a run that is gone on with
        folder.file(RunFile.SAMPLES).unlink(missing_ok=True)
    try_report(folder.path, progress=progress)


def offer_backbones(folder: RunFolder, request: FitRequest) -> tuple[BackboneSpec, ...]:
    """The pretrained networks to try; a run that resumes without any keeps its former ones."""
    if request.backbones:
        folder.write_record(RunFile.OFFERED, Offered(backbones=request.backbones))
    elif request.resume and folder.file(RunFile.OFFERED).is_file():
        return folder.read_record(RunFile.OFFERED, Offered).backbones
    return request.backbones


def fit_in_closed_form(
    folder: RunFolder, config: RunConfig, dataset: Dataset, request: FitRequest, progress: Progress
) -> None:
    """Fit a mixture in closed form and measure it, except for what was done before."""
    fitted = request.resume and folder.file(RunFile.CLOSED).is_file()
    if not fitted:
        config = fit_closed_run(folder, config, dataset, request, progress=progress)
    if not (fitted and folder.file(RunFile.METRICS).is_file()):
        evaluate_closed(folder, config, dataset, progress)


def go_on_by_gradient(
    folder: RunFolder, config: RunConfig, dataset: Dataset, request: FitRequest, progress: Progress
) -> None:
    """Train a network beside what was fitted in closed form; measure both if it is kept."""
    if not request.resume:
        shutil.rmtree(folder.file(RunFile.BY_GRADIENT), ignore_errors=True)
    config = folder.read_config().model_copy(update={"train": config.train})
    if judged_row(folder) is None:
        where = folder.file(RunFile.STORES)
        build_stores(where, dataset, config.spectro, ["train", "val"], progress=progress)
    if add_network(folder, config, dataset, request, progress=progress).taken:
        evaluate_closed(folder, config, dataset, progress)


def evaluate_closed(
    folder: RunFolder, config: RunConfig, dataset: Dataset, progress: Progress
) -> None:
    where = folder.file(RunFile.STORES)
    stores = build_stores(
        where, dataset, config.spectro, ["test"], with_sound=True, progress=progress
    )
    evaluate_closed_run(folder, dataset, stores["test"], progress=progress)


def clear(folder: RunFolder) -> None:
    """Remove the spectrograms of a complete run, and features that none of its experts uses."""
    with storage_errors(folder.path):
        shutil.rmtree(folder.file(RunFile.STORES), ignore_errors=True)
    if folder.file(RunFile.KNOWN).is_file():
        keep_features(folder)


def fit_by_gradient(
    folder: RunFolder, config: RunConfig, dataset: Dataset, request: FitRequest, progress: Progress
) -> None:
    """Train a mixture on spectrograms, which are kept until it is evaluated."""
    where = folder.file(RunFile.STORES)
    stores = build_stores(where, dataset, config.spectro, progress=progress)
    request.engine(TrainingJob(folder.path, config, where, resume=request.resume), progress)
    calibrate_run(folder, stores["val"], request.budget, progress=progress)
    evaluate_run(folder, dataset, stores, progress=progress)
    with storage_errors(folder.path):
        shutil.rmtree(where)
        shutil.rmtree(folder.file(RunFile.FEATURES))


def check_vacant(folder: RunFolder, *, resume: bool) -> None:
    """Raise ConfigError where the folder holds a run that would be overwritten."""
    if not resume and (folder.exists("last") or folder.file(RunFile.METRICS).exists()):
        mend = "resume it (--resume), or name another folder with --out"
        raise ConfigError("the folder already holds a run", where=str(folder.path), mend=mend)


def build_stores(
    where: Path,
    dataset: Dataset,
    spectro: SpectroConfig,
    splits: Sequence[str] = SPLITS,
    *,
    with_sound: bool = False,
    progress: Progress = silent,
) -> dict[str, SpectrogramStore]:
    """Spectrograms of splits in the folder ``where``, built where they are not there yet.

    Raises DatasetError where a split has no readable clip.
    """
    frontend = build_frontend(spectro)
    stores = {}
    for split in splits:
        examples, path = dataset.split(split), where / split
        with storage_errors(where):
            where.mkdir(parents=True, exist_ok=True)
        clip_ids = [example.clip_id for example in examples]
        if not matches(path, frontend, clip_ids, with_sound=with_sound):
            build_store(
                path,
                dataset,
                examples,
                frontend,
                by_segment=split != "train",
                with_sound=with_sound and split != "train",
                progress=progress,
            )
        stores[split] = open_store(path)
        if not len(stores[split]):
            what = f"the {split} split has no readable recording"
            mend = "add recordings to it, or leave the split column out to have splits made"
            raise DatasetError(what, where=str(dataset.root), mend=mend)
    return stores
