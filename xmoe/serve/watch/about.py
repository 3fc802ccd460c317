"""What a run folder says about itself: why experts are masked, what it was trained on.

A folder may lack all of it, for example when copied without its reports; serving then goes on and
says what is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TypeVar

from xmoe.annotate.events import MergeRules
from xmoe.annotate.recording import merge_rules
from xmoe.annotate.thresholds import read_thresholds
from xmoe.base.config import RunConfig
from xmoe.base.errors import RunFolderError
from xmoe.policy.records import Policy
from xmoe.predict.samples import Sample, read_samples
from xmoe.profile.clip_stats import ClipStats
from xmoe.profile.profile import Profile, read_clip_table, read_profile
from xmoe.run.folder import RunFile, RunFolder
from xmoe.run.remote import fetched
from xmoe.serve.schemas import TrainingSummary
from xmoe.serve.settings import ServeSettings
from xmoe.serve.watch.reference import Reference

Value = TypeVar("Value")
FILES = (RunFile.POLICY, RunFile.PROFILE, RunFile.CLIPS, RunFile.EVENTS, RunFile.SAMPLES)
NO_TABLE = f"the run has no {RunFile.CLIPS} that can be read, so there is nothing to compare with"


@dataclass(frozen=True)
class About:
    """What is known of a run: its name, the hash of its weights, masks with reasons, training data,
    when windows of a long recording are an event, and clips to try it with.

    ``no_reference`` says why there is no ``reference``.
    """

    name: str = ""
    weights_sha256: str = ""
    mask_reasons: dict[str, str] = field(default_factory=dict)
    training: TrainingSummary | None = None
    reference: Reference | None = None
    no_reference: str = NO_TABLE
    event_rules: MergeRules = field(default_factory=MergeRules)
    samples: Sequence[Sample] = ()


NOTHING_KNOWN = About()


def read_about(settings: ServeSettings, config: RunConfig) -> About:
    """What the run's folder says; only its configuration and weights must be there."""
    with fetched(settings.run, [], which=settings.which, wanted=FILES) as folder:
        return _read_folder(folder, settings, config)


def _read_folder(folder: RunFolder, settings: ServeSettings, config: RunConfig) -> About:
    reference, missing = None, "" if settings.drift.enabled else "switched off in the settings"
    if settings.drift.enabled:
        reference, missing = read_reference(folder, config)
    return About(
        name=PurePosixPath(settings.run).name,
        weights_sha256=folder.fingerprint(settings.which),
        mask_reasons=read_or({}, lambda: folder.read_record(RunFile.POLICY, Policy).mask_reasons),
        training=read_or(None, lambda: summarise(read_profile(folder.file(RunFile.PROFILE)))),
        reference=reference,
        no_reference=missing,
        event_rules=merge_rules(read_thresholds(folder, config.classes)),
        samples=read_or((), lambda: read_samples(folder)),
    )


def read_or(otherwise: Value, read: Callable[[], Value]) -> Value:
    """What a run says, or ``otherwise`` where its folder lacks it."""
    try:
        return read()
    except RunFolderError:
        return otherwise


def read_known(run: str, samples: Sequence[Sample]) -> frozenset[str]:
    """Hashes of the sounds that a run was made from, and of those it keeps."""
    from xmoe.batch.suggest import known_sounds

    with fetched(run, [], wanted=(RunFile.CLIPS,)) as folder:
        return known_sounds(folder) | {sample.sound_sha256 for sample in samples}


def summarise(profile: Profile) -> TrainingSummary:
    return TrainingSummary(
        clips=profile.num_clips,
        duration_s=profile.total_duration_s,
        sample_rates_hz=profile.fs_unique,
        effective_band_hz=(profile.fmin_eff_hz, profile.fmax_eff_hz),
        quality=profile.quality,
        snr_db=profile.snr_db,
        clips_by_class={name: one.count for name, one in profile.classes.items()},
    )


def read_reference(folder: RunFolder, config: RunConfig) -> tuple[Reference | None, str]:
    """What incoming recordings are compared with, or None and the reason."""
    rows: list[ClipStats] = read_or([], lambda: read_clip_table(folder.file(RunFile.CLIPS)))
    return (Reference.of(rows, config.classes), "") if rows else (None, NO_TABLE)
