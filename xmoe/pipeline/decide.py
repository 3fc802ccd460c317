"""A folder of labelled recordings -> the settings of a run, and its readable recordings.

Findings about the data come before any work; an unreadable recording is quarantined and never stops
a run unless ``strict``. Profile and policy leave their records in the run folder, and a run that
resumes takes its settings from there.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from xmoe.audio.checks import check_content, check_manifest, raise_on_errors
from xmoe.audio.dataset import SPLITS, Dataset, load_dataset
from xmoe.audio.quarantine import Quarantined, write_quarantine
from xmoe.base.config import RunConfig, TrainConfig
from xmoe.base.errors import AudioError, ConfigError
from xmoe.base.files import write_json
from xmoe.base.progress import Progress, silent
from xmoe.pipeline.request import FitRequest
from xmoe.policy.policy import Choice, Policy, choose_policy
from xmoe.policy.rules import decide_fit
from xmoe.profile.profile import write_clip_table
from xmoe.run.folder import RunFile, RunFolder
from xmoe.training.budget import parse_budget
from xmoe.training.calibrate import check_budget
from xmoe.training.stack import MOST_EXPERTS

THREADS = 2
SHOWN_BAD = 3


def decide(
    folder: RunFolder, request: FitRequest, *, progress: Progress = silent
) -> tuple[RunConfig, Dataset]:
    """Check, profile and choose the policy, or resume with what was decided; write all of it.

    Returns the settings and the readable recordings. Raises DatasetError for data that cannot be
    trained on, ConfigError for settings that cannot hold.
    """
    dataset = read_checked(request, progress=progress)
    if request.resume and folder.file(RunFile.CONFIG).is_file():
        return resume_config(folder, dataset, request), dataset
    result = request.profiler(dataset, workers=THREADS, progress=progress)
    record_quarantine(folder, result.quarantined, strict=request.strict)
    say(progress, "quarantine", describe_quarantine(result.quarantined, folder))
    findings = check_content(dataset, result.hashes, result.silent)
    raise_on_errors(findings)
    dataset = keep_readable(dataset, result.hashes)
    warnings = [*map(str, findings), *result.profile.warnings]
    say(progress, "warning", warnings)
    write_json(folder.file(RunFile.PROFILE), result.profile)
    write_clip_table(folder.file(RunFile.CLIPS), result.stats)
    policy = choose_policy(
        result.profile,
        dataset,
        method=request.policy,
        overrides=request.overrides,
        seed=request.train.seed,
        progress=progress,
    )
    fit = Choice.given("fit", request.train.fit)
    if request.fit_by_policy:
        fit = decide_fit(result.profile)
        say(progress, "fit", [f"{fit.value}: {fit.reason}"])
    policy = policy.model_copy(update={"choices": (*policy.choices, fit)})
    train = request.train.model_copy(update={"fit": fit.value})
    config = make_config(policy, dataset, train)
    if train.fit != "gradient":
        parse_budget(request.budget, MOST_EXPERTS)
    else:
        check_budget(request.budget, config.model.k_max)
    folder.write_record(RunFile.POLICY, policy)
    folder.write_record(RunFile.SPECTRO, policy.spectro)
    folder.write_record(RunFile.DATASET, describe_dataset(request, dataset, warnings))
    folder.write_record(RunFile.CONFIG, config)
    return config, dataset


def read_checked(request: FitRequest, *, progress: Progress = silent) -> Dataset:
    """The data set with its manifest checked; reports what was assumed and what is odd."""
    dataset = load_dataset(
        request.dataset_dir,
        request.metadata_csv,
        test_fold=request.test_fold,
        task=request.task,
        seed=request.train.seed,
        progress=progress,
    )
    findings = check_manifest(dataset)
    raise_on_errors(findings)
    say(progress, "data", [*dataset.notes, *map(str, findings)])
    return dataset


def keep_readable(dataset: Dataset, readable: Collection[str]) -> Dataset:
    """Keep the clips whose ids are ``readable``; other clips of the same file stay."""
    kept = tuple(example for example in dataset.examples if example.clip_id in readable)
    return replace(dataset, examples=kept)


def _refuse_new_wishes(folder: RunFolder, config: RunConfig, request: FitRequest) -> None:
    """ConfigError where the command line asks for settings that the run was not begun with."""
    fitted = folder.file(RunFile.CLOSED).is_file()
    if fitted and request.budget not in (config.routing.budget, "accuracy"):
        what = f"the run was begun with the budget {config.routing.budget}"
        mend = f"finish it, then `xmoe calibrate {folder.path} --budget {request.budget}`"
        raise ConfigError(what, where=str(folder.path), mend=mend)
    policy = folder.read_record(RunFile.POLICY, Policy)
    known = {one.name: one for one in policy.choices if one.source != "user"}
    wishes = request.overrides.model_dump(mode="json", exclude_none=True)
    names = [name for name in wishes if name in known and name not in ("experts", "k_max")]
    if differ := [name for name in names if known[name].value != wishes[name]]:
        what = f"the run was begun with {differ[0]} {known[differ[0]].value}"
        mend = "resume without that option, or train into another folder"
        raise ConfigError(what, where=str(folder.path), mend=mend)


def make_config(policy: Policy, dataset: Dataset, train: TrainConfig) -> RunConfig:
    return RunConfig(
        classes=dataset.classes,
        spectro=policy.spectro,
        model=policy.as_model_config(task=dataset.task, num_classes=len(dataset.classes)),
        train=train,
    )


def resume_config(folder: RunFolder, dataset: Dataset, request: FitRequest) -> RunConfig:
    """Settings of the run to resume; ConfigError where they differ.

    A run that was fitted in closed form may continue by gradient.
    """
    config = folder.read_config()
    if config.classes != dataset.classes:
        raise ConfigError(
            f"the run knows the classes {', '.join(config.classes)}; "
            f"the data has {', '.join(dataset.classes)}",
            where=str(folder.path),
            mend="resume with the data set that the run was begun with",
        )
    wanted = request.train.model_dump()
    if request.fit_by_policy:
        wanted["fit"] = config.train.fit
    free = {"device", "num_workers"}
    if (config.train.fit, request.train.fit) == ("closed", "both"):
        free = wanted.keys() - {"seed"}  # the others are for gradients
    known = config.train.model_dump()
    differ = [name for name in known if name not in free and wanted[name] != known[name]]
    if differ:
        what = f"the run was begun with other settings for: {', '.join(differ)}"
        mend = "resume with the same settings, or train into another folder"
        raise ConfigError(what, where=str(folder.path), mend=mend)
    _refuse_new_wishes(folder, config, request)
    changed = {name: wanted[name] for name in free}
    return config.model_copy(update={"train": config.train.model_copy(update=changed)})


def record_quarantine(folder: RunFolder, bad: Sequence[Quarantined], *, strict: bool) -> None:
    """Write the bad recordings down; AudioError for the first of them where ``strict``."""
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
    if not bad:
        return []
    shown = "; ".join(f"{row.filepath}: {row.reason}" for row in bad[:SHOWN_BAD])
    where = folder.file(RunFile.QUARANTINE)
    return [f"{len(bad)} recordings left out ({shown}{' ...' if bad[SHOWN_BAD:] else ''}): {where}"]


def describe_dataset(
    request: FitRequest, dataset: Dataset, warnings: Sequence[str]
) -> dict[str, object]:
    """What the run remembers of its data: where, how many, what was assumed and found."""
    return {
        "root": dataset.source or str(dataset.root),
        "metadata": None if request.metadata_csv is None else str(request.metadata_csv),
        "task": dataset.task,
        "classes": dataset.classes,
        "clips": {split: len(dataset.split(split)) for split in SPLITS},
        "notes": dataset.notes,
        "warnings": list(warnings),
    }


def say(progress: Progress, stage: str, sentences: Sequence[str]) -> None:
    for done, sentence in enumerate(sentences, 1):
        progress(f"{stage} {done}" if len(sentences) > 1 else stage, 1, 1, sentence)
