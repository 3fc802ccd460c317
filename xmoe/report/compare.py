"""Two runs -> paired differences on the test clips that both answered, with intervals.

Both runs answered the same clips, so their figures differ less by chance than each varies: every
resample draws clips (or groups of them) once and measures both runs on these. A clip is known by
the hash of its sound, wherever it lay.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from xmoe.base.errors import ConfigError
from xmoe.base.task import Array, Task, task_of
from xmoe.metrics.bootstrap import make_resampler, resample
from xmoe.metrics.figures import Clips, measure, prepare_clips
from xmoe.report.records import Row, RunRecords

NUM_BOOTSTRAP = 2000
MOST_CLASSES = 5


@dataclass(frozen=True)
class Difference:
    """A figure of both runs, and the second less the first with its 95 % interval.

    ``interval`` is None where all clips are of one group.
    """

    name: str
    first: float
    second: float
    interval: tuple[float, float] | None

    @property
    def value(self) -> float:
        return self.second - self.first

    @property
    def is_clear(self) -> bool:
        return self.interval is not None and not self.interval[0] <= 0.0 <= self.interval[1]


@dataclass(frozen=True)
class Comparison:
    """Two runs on the ``num_clips`` test clips that both answered; ``units`` were drawn.

    ``figures`` and the recall of ``classes``, those that differ most first; ids of the clips that
    only one run answered right (entirely, where there are several labels); ``notes`` on what was
    left out.
    """

    runs: tuple[str, str]
    num_clips: int
    units: int
    figures: tuple[Difference, ...]
    classes: tuple[Difference, ...]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    both: int
    notes: tuple[str, ...]


def compare_runs(first: str | Path, second: str | Path, *, seed: int = 0) -> Comparison:
    """How the second run differs from the first.

    Raises ConfigError where they know other classes, have no test clip in common, or differ in what
    a clip is; RunFolderError where a record is missing.
    """
    runs = (RunRecords(first), RunRecords(second))
    task, classes = _same_classes(runs)
    pairs, notes = _pair(runs)
    notes = [run.outdated for run in runs if run.outdated] + notes
    where = f"{runs[0].name} and {runs[1].name}"
    if not pairs:
        mend = "evaluate both on the same test split (xmoe eval)"
        raise ConfigError("have no test clip in common", where=where, mend=mend)
    if other := [a["clip_id"] for a, b in pairs if set(a["labels"]) != set(b["labels"])]:
        what = f"{len(other)} clips have other labels in each, for example {other[0]}"
        mend = "evaluate both on the same labels (xmoe eval)"
        raise ConfigError(what, where=where, mend=mend)
    clips = [
        _as_clips([pair[side] for pair in pairs], runs[side].config.classes, classes, task)
        for side in (0, 1)
    ]
    groups = _groups(runs[0], pairs)
    draw, units = make_resampler(len(pairs), groups, seed)
    weights = draw(NUM_BOOTSTRAP)
    right = [one.right == 1.0 for one in clips]
    ids = np.array([a["clip_id"] for a, _ in pairs])
    names = (runs[0].name, runs[1].name)
    return Comparison(
        runs=names if names[0] != names[1] else (str(first), str(second)),
        num_clips=len(pairs),
        units=units,
        figures=_figures(clips, weights, units, pairs),
        classes=_recalls(clips, weights, units, classes),
        only_first=tuple(ids[right[0] & ~right[1]].tolist()),
        only_second=tuple(ids[right[1] & ~right[0]].tolist()),
        both=int((right[0] & right[1]).sum()),
        notes=tuple(notes),
    )


def _same_classes(runs: Sequence[RunRecords]) -> tuple[Task, tuple[str, ...]]:
    one, other = (run.config for run in runs)
    if one.model.task != other.model.task or set(one.classes) != set(other.classes):
        lacking = sorted(set(one.classes) ^ set(other.classes))
        what = f"classes differ: {', '.join(lacking[:4])}" if lacking else "tasks differ"
        where = f"{runs[0].name} and {runs[1].name}"
        raise ConfigError(what, where=where, mend="compare runs that were trained on one task")
    return task_of(one.model.task), one.classes


def _pair(runs: Sequence[RunRecords]) -> tuple[list[tuple[Row, Row]], list[str]]:
    """Traces of the clips that both answered, and a note on those that one did not."""
    keyed = [{key: row for row in run.traces if (key := _key(run, row))} for run in runs]
    both = [key for key in keyed[0] if key in keyed[1]]
    pairs = [(keyed[0][key], keyed[1][key]) for key in both]
    notes = [
        f"{len(run.traces) - len(pairs)} of {len(run.traces)} test clips of {run.name} are not "
        "among those of the other: left out"
        for run in runs
        if len(run.traces) > len(pairs)
    ]
    return pairs, notes


def _key(run: RunRecords, row: Row) -> str:
    """What identifies a clip: the hash of its sound; its id where that was not recorded."""
    return str(run.clips.get(row["clip_id"], {}).get("content_sha256") or row["clip_id"])


def _as_clips(rows: Sequence[Row], own: Sequence[str], classes: Sequence[str], task: Task) -> Clips:
    """What each clip adds to the figures, its columns in the order of ``classes``."""
    columns = [list(own).index(name) for name in classes]
    p = np.array([row["probabilities"] for row in rows])[:, columns]
    truth = np.array([[float(name in row["labels"]) for name in classes] for row in rows])
    return prepare_clips(p, truth.argmax(1) if task.exclusive else truth, task)


def _groups(run: RunRecords, pairs: Sequence[tuple[Row, Row]]) -> list[str]:
    clips = [run.clips.get(row["clip_id"], {}) for row, _ in pairs]
    return [
        str(clip.get("group") or clip.get("filepath") or row["clip_id"])
        for clip, (row, _) in zip(clips, pairs, strict=True)
    ]


def _figures(
    clips: Sequence[Clips], weights: Array, units: int, pairs: Sequence[tuple[Row, Row]]
) -> tuple[Difference, ...]:
    resampled = [resample(one, _replay(weights), len(weights)) for one in clips]
    now = [measure(one, np.ones((1, len(one.right)))) for one in clips]
    asked = [np.array([pair[side]["k"] for pair in pairs]) for side in (0, 1)]
    figures = [
        _differ(name, [float(one[name][0]) for one in now], [one[name] for one in resampled], units)
        for name in now[0]
    ]
    share = weights / weights.sum(1, keepdims=True)
    means = [float(k.mean()) for k in asked]
    figures.append(_differ("mean_k", means, [share @ k for k in asked], units))
    return tuple(figures)


def _replay(weights: Array) -> Callable[[int], Array]:
    """A draw that yields the same resamples, in order, to every run."""
    rows = iter(weights)
    return lambda count: np.stack(list(islice(rows, count)))


def _recalls(
    clips: Sequence[Clips], weights: Array, units: int, classes: Sequence[str]
) -> tuple[Difference, ...]:
    """Recall of the classes that differ most, if they differ at all."""
    present = clips[0].truth.sum(0)
    found = []
    for column in np.flatnonzero(present).tolist():
        truth = clips[0].truth[:, column]
        hits = [truth * one.said[:, column] for one in clips]
        count = np.maximum(weights @ truth, 1e-12)
        values = [float(hit.sum() / present[column]) for hit in hits]
        found.append(
            _differ(classes[column], values, [weights @ hit / count for hit in hits], units)
        )
    differing = sorted((row for row in found if row.value), key=lambda row: -abs(row.value))
    return tuple(differing[:MOST_CLASSES])


def _differ(
    name: str, values: Sequence[float], resampled: Sequence[Array], units: int
) -> Difference:
    low, high = np.quantile(resampled[1] - resampled[0], (0.025, 0.975))
    interval = (float(low), float(high)) if units > 1 else None
    return Difference(name, values[0], values[1], interval)


def describe(comparison: Comparison) -> dict[str, Any]:
    rows = {
        key: {
            one.name: {
                "first": one.first,
                "second": one.second,
                "difference": one.value,
                "ci": one.interval,
            }
            for one in getattr(comparison, key)
        }
        for key in ("figures", "classes")
    }
    counts = {
        "only_first": list(comparison.only_first),
        "only_second": list(comparison.only_second),
        "both": comparison.both,
    }
    known = {"runs": comparison.runs, "num_clips": comparison.num_clips, "units": comparison.units}
    return {**known, **rows, **counts, "notes": list(comparison.notes)}
