"""A folder of labelled recordings -> a run folder with a classifier that was chosen for them.

The stages follow each other and each leaves its record in the run folder before the next begins,
so that a run that was stopped goes on where its records end. Findings about the data come before
any work; a recording that cannot be read is quarantined and never stops a run unless ``strict``.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Protocol, TypedDict

from xmoe.audio.checks import check_content, check_manifest, raise_on_errors
from xmoe.audio.dataset import SPLITS, Dataset, load_dataset
from xmoe.audio.quarantine import Quarantined, write_quarantine
from xmoe.base.config import RunConfig, SpectroConfig, TaskName, TrainConfig
from xmoe.base.errors import AudioError, ConfigError, DatasetError
from xmoe.base.files import storage_errors
from xmoe.base.progress import Progress, silent
from xmoe.features.store import SpectrogramStore, build_store, matches, open_store
from xmoe.frontend.registry import build_frontend
from xmoe.pipeline.outcome import finish_run
from xmoe.pipeline.reporting import try_report
from xmoe.policy.policy import PolicyOverrides, choose_policy
from xmoe.profile.assemble import ProfileResult, profile_dataset
from xmoe.profile.profile import write_clip_table, write_profile
from xmoe.run.folder import RunFile, RunFolder
from xmoe.training.calibrate import check_budget
from xmoe.training.session import Engine, TrainingJob, train_here

THREADS = 2
SHOWN_BAD = 3


class Profiler(Protocol):
    """Whatever profiles a data set: the plain loop, or a job on Ray."""

    def __call__(self, dataset: Dataset, *, workers: int, progress: Progress) -> ProfileResult:
        """Return the profile of a data set."""
        ...


class RequestOptions(TypedDict, total=False):
    """The optional fields of a ``FitRequest``.

    ``policy``: ``race`` measures the candidates that the rules leave, ``rule`` does not;
    ``overrides`` replace its choices. ``strict`` makes an unreadable recording an error.
    ``engine`` runs the training job (``train_here`` by default) and ``profiler`` the profile.
    """

    resume: bool
    policy: Literal["race", "rule"]
    overrides: PolicyOverrides
    strict: bool
    test_fold: int | None
    engine: Engine
    profiler: Profiler
    progress: Progress


class FitOptions(RequestOptions, total=False):
    """What ``MoEAudioClassifier.fit`` takes beside folder, manifest, run folder and length.

    ``learning_rate`` is the peak of the one-cycle schedule.
    """

    learning_rate: float


@dataclass(frozen=True)
class FitRequest:
    """One call of ``fit``, as a value."""

    dataset_dir: Path
    metadata_csv: Path | None
    out_dir: Path
    task: TaskName | None
    budget: str | float
    train: TrainConfig
    resume: bool = False
    policy: Literal["race", "rule"] = "race"
    overrides: PolicyOverrides = field(default_factory=PolicyOverrides)
    strict: bool = False
    test_fold: int | None = None
    engine: Engine = train_here
    profiler: Profiler = profile_dataset
    progress: Progress = silent


def fit_run(request: FitRequest) -> RunFolder:
    """Fit, calibrate and evaluate; returns the run folder.

    Raises DatasetError for data that cannot be trained on, ConfigError for settings that cannot
    hold, StorageError where the run folder cannot be written.
    """
    folder = RunFolder(request.out_dir)
    check_vacant(folder, resume=request.resume)
    dataset = read_checked(request)
    if request.resume and folder.file(RunFile.CONFIG).is_file():
        config = resume_config(folder, dataset, request)
    else:
        config, dataset = decide(request, folder, dataset)
    stores = build_stores(folder, dataset, config.spectro, progress=request.progress)
    job = TrainingJob(
        run=folder.path,
        config=config,
        train_store=store_path(folder, "train"),
        val_store=store_path(folder, "val"),
        resume=request.resume,
    )
    request.engine(job, request.progress)
    groups = {example.clip_id: example.group_key for example in dataset.examples}
    finish_run(folder, stores, budget=request.budget, groups=groups, progress=request.progress)
    with storage_errors(folder.path):
        shutil.rmtree(store_path(folder, "train").parent)
    try_report(folder.path, progress=request.progress)
    return folder


def check_vacant(folder: RunFolder, *, resume: bool) -> None:
    """Raise ConfigError where the folder holds a run that would be overwritten."""
    if not resume and (folder.exists("last") or folder.file(RunFile.METRICS).exists()):
        raise ConfigError(
            "the folder holds a run already",
            where=str(folder.path),
            mend="go on with it (--resume), or name another folder with --out",
        )


def read_checked(request: FitRequest) -> Dataset:
    """Return the data set, its manifest checked; says what was assumed and what is odd."""
    dataset = load_dataset(
        request.dataset_dir,
        request.metadata_csv,
        test_fold=request.test_fold,
        task=request.task,
        seed=request.train.seed,
    )
    findings = check_manifest(dataset)
    raise_on_errors(findings)
    say(request.progress, "data", [*dataset.notes, *map(str, findings)])
    return dataset


def say(progress: Progress, stage: str, sentences: Sequence[str]) -> None:
    """Show sentences, one step each."""
    for done, sentence in enumerate(sentences, 1):
        progress(f"{stage} {done}" if len(sentences) > 1 else stage, 1, 1, sentence)


def decide(request: FitRequest, folder: RunFolder, dataset: Dataset) -> tuple[RunConfig, Dataset]:
    """Profile, choose the policy and write both; returns the settings and the readable examples."""
    result = request.profiler(dataset, workers=THREADS, progress=request.progress)
    record_quarantine(folder, result.quarantined, strict=request.strict)
    say(request.progress, "quarantine", describe_quarantine(result.quarantined, folder))
    findings = check_content(dataset, result.hashes)
    raise_on_errors(findings)
    warnings = [*map(str, findings), *result.profile.warnings]
    say(request.progress, "warning", warnings)
    write_profile(folder.file(RunFile.PROFILE), result.profile)
    write_clip_table(folder.file(RunFile.CLIPS), result.stats)
    dataset = keep_readable(dataset, result.hashes)
    policy = choose_policy(
        result.profile,
        dataset,
        method=request.policy,
        overrides=request.overrides,
        seed=request.train.seed,
        progress=request.progress,
    )
    config = RunConfig(
        classes=dataset.classes,
        spectro=policy.spectro,
        model=policy.as_model_config(task=dataset.task, num_classes=len(dataset.classes)),
        train=request.train,
    )
    check_budget(request.budget, config.model.k_max)
    folder.write_record(RunFile.POLICY, policy)
    folder.write_record(RunFile.SPECTRO, policy.spectro)
    folder.write_record(RunFile.DATASET, describe_dataset(dataset, warnings))
    folder.write_record(RunFile.CONFIG, config)
    return config, dataset


def describe_dataset(dataset: Dataset, warnings: Sequence[str]) -> dict[str, object]:
    """Return what the run remembers of its data: where, how many, what was assumed and found."""
    return {
        "root": str(dataset.root),
        "task": dataset.task,
        "classes": dataset.classes,
        "clips": {split: len(dataset.split(split)) for split in SPLITS},
        "notes": dataset.notes,
        "warnings": list(warnings),
    }


def resume_config(folder: RunFolder, dataset: Dataset, request: FitRequest) -> RunConfig:
    """Return the settings of the run that is gone on with; ConfigError where they differ."""
    config = folder.read_config()
    if config.classes != dataset.classes:
        raise ConfigError(
            f"the run knows the classes {', '.join(config.classes)}; "
            f"the data has {', '.join(dataset.classes)}",
            where=str(folder.path),
            mend="resume with the data set that the run was begun with",
        )
    device = {"device": request.train.device, "num_workers": request.train.num_workers}
    wanted = request.train.model_dump()
    differ = [
        name
        for name, value in config.train.model_dump().items()
        if name not in device and wanted[name] != value
    ]
    if differ:
        raise ConfigError(
            f"the run was begun with other settings for: {', '.join(differ)}",
            where=str(folder.path),
            mend="resume with the same settings, or train into another folder",
        )
    return config.model_copy(update={"train": config.train.model_copy(update=device)})


def record_quarantine(folder: RunFolder, bad: Sequence[Quarantined], *, strict: bool) -> None:
    """Write ``quarantine.csv``; AudioError for the first bad recording where ``strict``."""
    write_quarantine(folder.file(RunFile.QUARANTINE), bad)
    if strict and bad:
        first = bad[0]
        raise AudioError(
            first.code,
            f"{first.reason} ({len(bad)} such recordings; --strict allows none)",
            where=first.filepath,
            mend=first.mend,
        )


def describe_quarantine(bad: Sequence[Quarantined], folder: RunFolder) -> list[str]:
    """Return a sentence on what was left out, or nothing."""
    if not bad:
        return []
    shown = "; ".join(f"{row.filepath}: {row.reason}" for row in bad[:SHOWN_BAD])
    where = folder.file(RunFile.QUARANTINE)
    return [f"{len(bad)} recordings left out ({shown}{' ...' if bad[SHOWN_BAD:] else ''}): {where}"]


def keep_readable(dataset: Dataset, readable: Collection[str]) -> Dataset:
    """Return the data set without the clips that could not be read; one is named by its id.

    Of a file with several clips the others stay.
    """
    kept = tuple(example for example in dataset.examples if example.clip_id in readable)
    return replace(dataset, examples=kept)


def store_path(folder: RunFolder, split: str) -> Path:
    """Return where the spectrograms of a split are kept while a run is in work."""
    return folder.file(RunFile.STORES) / split


def build_stores(
    folder: RunFolder,
    dataset: Dataset,
    spectro: SpectroConfig,
    *,
    progress: Progress = silent,
) -> dict[str, SpectrogramStore]:
    """Return the spectrograms of every split, built where they are not there yet.

    Raises DatasetError where a split has no readable clip.
    """
    frontend = build_frontend(spectro)
    stores = {}
    for split in SPLITS:
        examples, path = dataset.split(split), store_path(folder, split)
        if matches(path, frontend, [example.clip_id for example in examples]):
            stores[split] = open_store(path)
        else:
            stores[split], _ = build_store(path, dataset, examples, frontend, progress=progress)
        if not len(stores[split]):
            raise DatasetError(
                f"the {split} split has no readable recording",
                where=str(dataset.root),
                mend="add recordings to it, or leave the split column out to have splits made",
            )
    return stores
