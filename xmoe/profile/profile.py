"""Rows of ClipStats in any order -> Profile: what a data set is like, and what to beware of.

The rows are sorted by clip before anything is added up and every number is kept to six significant
digits, so a profile has the same bytes for any order of files, any sharding and any number of
workers. ``profile_dataset`` is the plain loop; ``xmoe.jobs.profile`` does the same on Ray.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from xmoe.audio.clip import DEFAULT_LIMITS, DecodeLimits
from xmoe.audio.dataset import Dataset
from xmoe.audio.quarantine import Quarantined
from xmoe.base.config import Frozen, TaskName
from xmoe.base.errors import DatasetError, RunFolderError
from xmoe.base.files import read_json, to_json, write_bytes
from xmoe.base.progress import Progress, silent
from xmoe.profile.advice import advise
from xmoe.profile.clip_stats import ClipStats, measure_example
from xmoe.profile.leakage import Leakage, measure_leakage
from xmoe.profile.summary import rounded, summarise
from xmoe.profile.table import Row, parquet_to_rows, quarantine_key, row_key, rows_to_parquet

SCHEMA_VERSION = 1
PROFILE_AGAIN = "profile the data set again"


class Quantiles(Frozen):
    """Where the values of one measure lie over the clips."""

    min: float
    p05: float
    p25: float
    p50: float
    p75: float
    p95: float
    max: float


class Histogram(Frozen):
    """``counts[i]`` clips lie between ``edges[i]`` and ``edges[i + 1]``."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]


class ClassProfile(Frozen):
    """One class: its size, and the medians of its clips (None where all are silent)."""

    count: int
    duration_s: float
    splits: dict[str, int]
    fmin_eff_hz: float | None
    fmax_eff_hz: float | None
    snr_db: float


class PsdSummary(Frozen):
    """Coarse spectrum over the clips that reach each band, dB re full scale^2/Hz."""

    frequency_hz: tuple[float, ...]
    p10_db: tuple[float, ...]
    p50_db: tuple[float, ...]
    p90_db: tuple[float, ...]


class Profile(Frozen):
    """What a data set of recordings is like; counts are clips unless the name says otherwise.

    ``fmin_eff_hz`` and ``fmax_eff_hz`` span the 5 % and 95 % quantiles of the clips' effective
    bands *and* the median band of every class, so that a small high-pitched class is not cut off.
    ``quality`` and ``transient`` are explained in ``xmoe.profile.quality``. ``snr_db``,
    ``clipping_rate`` and ``silence_rate`` are median, mean and mean over clips. ``imbalance`` is
    the largest class over the smallest. ``num_duplicates`` counts clips whose decoded content
    occurs earlier in the set.
    """

    schema_version: int = SCHEMA_VERSION
    task: TaskName
    num_clips: int
    num_quarantined: int
    quarantine_codes: dict[str, int]
    num_duplicates: int
    total_duration_s: float
    fs_mode_hz: int
    fs_unique: dict[int, int]
    channels: dict[int, int]
    bit_depths: dict[int, int]
    formats: dict[str, int]
    splits: dict[str, int]
    classes: dict[str, ClassProfile]
    imbalance: float
    fmin_eff_hz: float
    fmax_eff_hz: float
    snr_db: float
    clipping_rate: float
    clipped_fraction: float
    silence_rate: float
    near_silent_fraction: float
    band_limited_fraction: float
    band_limit_hz: float | None
    quality: float
    transient: float
    quantiles: dict[str, Quantiles]
    histograms: dict[str, Histogram]
    psd: PsdSummary
    leakage: Leakage
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class ProfileResult:
    """A profile with the rows it was made from, both sorted."""

    profile: Profile
    stats: tuple[ClipStats, ...]
    quarantined: tuple[Quarantined, ...]

    @property
    def hashes(self) -> dict[str, str]:
        """Clip id -> SHA-256 of the decoded content, for the check for duplicates."""
        return {row.clip_id: row.content_sha256 for row in self.stats}


def profile_dataset(
    dataset: Dataset,
    *,
    workers: int = 1,
    limits: DecodeLimits = DEFAULT_LIMITS,
    progress: Progress = silent,
) -> ProfileResult:
    """Profile a data set with a plain loop over ``workers`` threads; memory holds a clip each.

    A clip that cannot be read is quarantined. Raises DatasetError when none can be read or a path
    leaves the root.
    """
    measure = partial(measure_example, dataset.root, limits=limits)
    total = len(dataset.examples)
    rows: list[Row] = []
    check_paths(dataset)
    for row in _map_in_threads(measure, dataset.examples, workers):
        rows.append(row)
        progress("profile", len(rows), total)
    return assemble(rows, task=dataset.task)


def check_paths(dataset: Dataset) -> None:
    """Raise DatasetError where a path leaves the data set's root by its text."""
    for example in dataset.examples:
        dataset.path(example)


def _map_in_threads(
    measure: Callable[[Any], Row], examples: Sequence[Any], workers: int
) -> Iterator[Row]:
    if workers <= 1:
        yield from map(measure, examples)
        return
    with ThreadPoolExecutor(workers) as pool:
        yield from pool.map(measure, examples)


def assemble(rows: Iterable[Row], *, task: TaskName) -> ProfileResult:
    """Return the result of rows that arrived in any order, from any worker."""
    stats: list[ClipStats] = []
    quarantined: set[Quarantined] = set()
    for row in rows:
        if isinstance(row, Quarantined):
            quarantined.add(row)
        else:
            stats.append(row)
    stats.sort(key=row_key)
    bad = tuple(sorted(quarantined, key=quarantine_key))
    return ProfileResult(merge_stats(stats, quarantined=bad, task=task), tuple(stats), bad)


def merge_stats(
    stats: Iterable[ClipStats],
    *,
    quarantined: Sequence[Quarantined] = (),
    task: TaskName = "single_label",
) -> Profile:
    """Return the profile of rows in any order; equal rows give equal bytes.

    Raises DatasetError when there is no row.
    """
    rows = sorted(stats, key=row_key)
    if not rows:
        raise DatasetError(
            f"no recording could be read ({len(quarantined)} tried)",
            mend="see the reasons in the quarantine list",
        )
    codes = Counter(row.code for row in quarantined)
    fields: dict[str, Any] = {
        **summarise(rows, num_unreadable=len(quarantined)),
        "task": task,
        "num_quarantined": len(quarantined),
        "quarantine_codes": dict(sorted(codes.items())),
        "leakage": measure_leakage(rows, task=task).model_dump(),
    }
    plain = Profile.model_validate(rounded(fields))
    return plain.model_copy(update={"warnings": tuple(advise(plain))})


def profile_bytes(profile: Profile) -> bytes:
    """Return the canonical bytes of a profile: JSON with sorted keys."""
    return to_json(profile).encode()


def write_profile(path: Path, profile: Profile) -> None:
    """Write ``profile.json`` in one atomic step."""
    write_bytes(path, profile_bytes(profile))


def read_profile(path: Path) -> Profile:
    """Return the profile in a file; RunFolderError where it is missing, torn or not a profile."""
    try:
        return Profile.model_validate(read_json(path))
    except ValidationError as error:
        raise RunFolderError(
            f"not a profile: {error.errors()[0]['msg']}",
            where=str(path),
            mend=PROFILE_AGAIN,
        ) from error


def write_clip_table(path: Path, stats: Iterable[ClipStats]) -> None:
    """Write ``clips.parquet``, sorted by clip, in one atomic step."""
    write_bytes(path, rows_to_parquet(stats))


def read_clip_table(path: Path) -> list[ClipStats]:
    """Return the rows of ``clips.parquet``; RunFolderError where it is missing or torn."""
    try:
        return parquet_to_rows(path.read_bytes())
    except (OSError, ValueError) as error:
        raise RunFolderError(str(error), where=str(path), mend=PROFILE_AGAIN) from error
