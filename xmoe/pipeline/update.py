"""A run in closed form + more labelled clips -> the run, fitted to all of them.

Only what is new is measured. An update that is stopped starts over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from xmoe.audio.dataset import Dataset, Example
from xmoe.audio.quarantine import Quarantined
from xmoe.audio.store import load_clips
from xmoe.base.config import RunConfig
from xmoe.base.errors import AudioError, ConfigError, DatasetError
from xmoe.base.progress import Progress, silent
from xmoe.pipeline.refit import Grown, RefitRun
from xmoe.report.records import RunRecords
from xmoe.run.folder import RunFile, RunFolder
from xmoe.training.closed import COPIED_ROWS, hears_few, measure_copies
from xmoe.training.kernel_features import FileDigests, measure_features
from xmoe.training.known import Known
from xmoe.training.observe import MOST_CLIPS
from xmoe.training.pieces import spread
from xmoe.training.refit import refit

SHOWN = 3  # file names in a message


def update_run(path: str | Path, more: Dataset, *, progress: Progress = silent) -> Grown:
    """Fit a run to more labelled clips as well, except for those of its test split or of theirs.

    Raises DatasetError for labels that the run does not know, for other bytes under the name of a
    known clip, and where nothing is new or can be read; ConfigError where the features were not
    kept.
    """
    with RunFolder(path).changing():
        return _update(RefitRun(path), more, progress)


def _update(run: RefitRun, more: Dataset, progress: Progress) -> Grown:
    check_labels(more, run.config)
    known, specs, digest = run.known, run.measured(run.specs), FileDigests(more)
    check_twins(more, known, digest)
    if not known.holds(specs):
        what = "the run keeps no features of the clips that it was trained on, or not all of them"
        mend = "train again on all clips together"
        raise ConfigError(what, where=str(run.folder.file(RunFile.FEATURES)), mend=mend)
    fresh, passed = pick_fresh(more, known, digest)
    fresh, tested, bad = leave_tested_out(run.folder, more, fresh, progress)
    if hears_few(run.specs) and not known.whole.looked("whole").all():
        few = ", ".join(one.name for one in run.specs if hears_few([one]))
        what = f"the run does not know which windows of its earlier recordings {few} chose"
        mend = "take it out and add it again (xmoe expert remove, add), or train again"
        raise ConfigError(what, where=str(run.folder.file(RunFile.KNOWN)), mend=mend)
    job = run.job(replace(more, classes=run.config.classes))
    new = measure_features(job.source, fresh, specs, progress=progress)
    if known.whole.copied is not None:
        some = spread(new.examples, COPIED_ROWS, job.seed)
        new = replace(new, copied=measure_copies(job, some, run.specs, progress))
    features = known.whole.join(new)
    fitted = refit(job, features, run.specs, run.record, progress=progress)
    watched = spread(new.examples, MOST_CLIPS, job.seed)
    noisy = measure_features(job.source, watched, specs, copies=("noisy",), progress=progress)
    joined = known.noisy.join(noisy)
    settled = run.finish(fitted, joined, progress, has_new_clips=True)
    counts = len(features.examples), len(new.examples), passed, tested
    return Grown(settled, fitted.rows, *counts, bad=(*bad, *new.bad))


def check_twins(more: Dataset, known: Known, digest: FileDigests) -> None:
    """Refuse clips that are there twice, and known ones that now have another label."""
    seen: dict[tuple[str, float, float | None], Example] = {}
    pairs = zip(known.whole.examples, known.whole.digests, strict=True)
    labelled = {(own, one.start_s, one.end_s): one.labels for one, own in pairs}
    for one in (*more.split("train"), *more.split("val")):
        content = digest(one), one.start_s, one.end_s
        if not content[0]:
            continue  # it cannot be read, which is said later
        if content in seen:
            what = f"{seen[content].clip_id} and {one.clip_id} are the same clip"
            raise DatasetError(what, where=str(more.root), mend="keep one of them")
        seen[content] = one
        if content in labelled and set(labelled[content]) != set(one.labels):
            what = f"{one.clip_id} is known with the label {';'.join(labelled[content])}"
            mend = "keep that label, or train again on all clips with the right ones"
            raise DatasetError(what, where=str(more.root), mend=mend)


def check_labels(more: Dataset, config: RunConfig) -> None:
    if strange := sorted(set(more.classes) - set(config.classes)):
        what = f"the run does not know the labels {', '.join(strange)}"
        mend = f"use its labels ({', '.join(config.classes)}), or train again on all clips"
        raise DatasetError(what, where=str(more.root), mend=mend)


def leave_tested_out(
    folder: RunFolder, more: Dataset, fresh: Sequence[Example], progress: Progress
) -> tuple[list[Example], int, list[Quarantined]]:
    """The clips that are not of the run's own test split, how many are, and those that are bad.

    A clip is known by its sound, wherever it lies: a run is judged by clips that it never heard.
    DatasetError where none is left.
    """
    tested = set()
    if folder.file(RunFile.CLIPS).is_file():
        rows = RunRecords(folder.path).clips.values()
        tested = {row["content_sha256"] for row in rows if row["split"] == "test"}
    left, bad, count = [], [], 0
    for done, (example, clip) in enumerate(load_clips(more, fresh), 1):
        progress("own test clips", done, len(fresh))
        if isinstance(clip, AudioError):
            bad.append(Quarantined.from_error(example.filepath, clip))
        elif clip.content_sha256 in tested:
            count += 1
        else:
            left.append(example)
    if not left:
        why = [f"{count} are of the run's own test split"] if count else []
        why += [f"{len(bad)} cannot be read, {bad[0].filepath}: {bad[0].reason}"] if bad else []
        what = f"none of the {len(fresh)} new clips can be trained on: {'; '.join(why)}"
        raise DatasetError(what, where=str(more.root), mend="name clips that it does not know")
    return left, count, bad


def pick_fresh(more: Dataset, known: Known, digest: FileDigests) -> tuple[list[Example], int]:
    """The clips that the run was not fitted to, and how many it was.

    A clip is known by its bytes and times, whatever its name. DatasetError where a name now stands
    for other bytes, and where nothing is new.
    """
    whole = known.whole
    names = {one.clip_id for one in whole.examples}
    pairs = zip(whole.examples, whole.digests, strict=True)
    contents = {(own, one.start_s, one.end_s) for one, own in pairs}
    asked = [*more.split("train"), *more.split("val")]
    fresh = [one for one in asked if (digest(one), one.start_s, one.end_s) not in contents]
    if taken := [one.filepath for one in fresh if one.clip_id in names]:
        shown = ", ".join(taken[:SHOWN]) + (" ..." if taken[SHOWN:] else "")
        what = f"{len(taken)} files have the names of known clips and other bytes: {shown}"
        mend = "give new recordings new names, or put them into a folder of their own"
        raise DatasetError(what, where=str(more.root), mend=mend)
    if not fresh:
        what = f"nothing is new: the run was trained on all {len(asked)} clips"
        if not asked:
            what = "all clips are of the test split, which is not trained on"
        raise DatasetError(what, where=str(more.root), mend="name clips that it does not know")
    return fresh, len(asked) - len(fresh)
