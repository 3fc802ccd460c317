"""Rows of ClipStats in any order -> Profile: what a data set is like, and what to watch out for.

Rows are sorted by clip before anything is summed, and every number is kept to six significant
digits, so a profile has the same bytes for any order of files, sharding and number of workers.
``profile_dataset`` is the plain loop; ``xmoe.jobs.profile`` does the same on Ray.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from xmoe.audio.dataset import Dataset
from xmoe.audio.quarantine import Quarantined
from xmoe.base.config import TaskName
from xmoe.base.errors import DatasetError
from xmoe.base.progress import Progress, silent
from xmoe.profile.advice import advise
from xmoe.profile.clip_stats import ClipStats, measure_example
from xmoe.profile.leakage import measure_leakage
from xmoe.profile.profile import Profile
from xmoe.profile.summary import rounded, summarise
from xmoe.profile.table import Row, quarantine_key, row_key

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class ProfileResult:
    """A profile with the rows it was made from, both sorted."""

    profile: Profile
    stats: tuple[ClipStats, ...]
    quarantined: tuple[Quarantined, ...]

    def draw(self) -> Figure:
        """Spectrum and effective band, durations, SNR, rates and classes."""
        from xmoe.profile.draw import render_profile  # matplotlib takes a second to load

        return render_profile(self.profile)

    @property
    def hashes(self) -> dict[str, str]:
        """Clip id -> SHA-256 of the decoded content, for the check for duplicates."""
        return {row.clip_id: row.content_sha256 for row in self.stats}

    @property
    def silent(self) -> frozenset[str]:
        """Ids of the clips that hold nothing but silence."""
        return frozenset(row.clip_id for row in self.stats if row.silence_rate == 1.0)


def profile_dataset(
    dataset: Dataset,
    *,
    workers: int = 1,
    progress: Progress = silent,
) -> ProfileResult:
    """Profile a data set in a plain loop over ``workers`` threads, each holding one clip.

    A clip that cannot be read is quarantined. Raises DatasetError if none can be read or a path
    leaves the root.
    """
    measure = partial(measure_example, dataset.root)
    examples = dataset.examples
    rows: list[Row] = []
    check_paths(dataset)
    with ThreadPoolExecutor(max(workers, 1)) as pool:
        for row in pool.map(measure, examples) if workers > 1 else map(measure, examples):
            rows.append(row)
            progress("profile", len(rows), len(examples))
    return assemble(rows, task=dataset.task)


def check_paths(dataset: Dataset) -> None:
    """Raise DatasetError if the text of a path leaves the data set's root."""
    for example in dataset.examples:
        dataset.path(example)


def assemble(rows: Iterable[Row], *, task: TaskName) -> ProfileResult:
    """Sort rows that arrived in any order, from any worker, and merge them into a profile."""
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
    """Merge rows into a profile; equal rows give equal bytes, in any order.

    Raises DatasetError if there are no rows.
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
