"""The profile of a data set of recordings, as a record and as files of a run.

``xmoe.profile.assemble`` makes it from rows of ClipStats.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pydantic import ValidationError

from xmoe.base.config import Frozen, TaskName
from xmoe.base.errors import RunFolderError
from xmoe.base.files import read_json, write_bytes
from xmoe.profile.clip_stats import ClipStats
from xmoe.profile.leakage import Leakage
from xmoe.profile.table import parquet_to_rows, rows_to_parquet

SCHEMA_VERSION = 1
PROFILE_AGAIN = "profile the data set again"


class Quantiles(Frozen):
    """Quantiles of one measure over the clips."""

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


def read_profile(path: Path) -> Profile:
    """Read a profile; RunFolderError if the file is missing, damaged or not a profile."""
    try:
        return Profile.model_validate(read_json(path))
    except ValidationError as error:
        what = f"not a profile: {error.errors()[0]['msg']}"
        raise RunFolderError(what, where=str(path), mend=PROFILE_AGAIN) from error


def write_clip_table(path: Path, stats: Iterable[ClipStats]) -> None:
    """Write ``clips.parquet``, sorted by clip, atomically."""
    write_bytes(path, rows_to_parquet(stats))


def read_clip_table(path: Path) -> list[ClipStats]:
    """The rows of ``clips.parquet``; RunFolderError if it is missing or damaged."""
    try:
        return parquet_to_rows(path.read_bytes())
    except (OSError, ValueError) as error:
        raise RunFolderError(str(error), where=str(path), mend=PROFILE_AGAIN) from error
