"""A run in closed form + one more expert, or more labelled clips -> the run, fitted anew.

What was taken stays, and nothing is searched: heads, weights and promises are fitted from features
that the run keeps; only what is new is measured. A run that is stopped in between answers as before
or as afterwards, and the same command goes on with it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from xmoe.audio.dataset import Dataset, Example
from xmoe.base.config import BackboneSpec, ExpertSpec, RunConfig
from xmoe.base.errors import ConfigError, DatasetError
from xmoe.base.files import read_json
from xmoe.base.progress import Progress, silent
from xmoe.base.task import task_of
from xmoe.mixture.promise_router import STEM_NAME
from xmoe.pipeline.closed import describe_fit, describe_routing, settle_fit
from xmoe.pipeline.recalibrate import read_closed_config
from xmoe.pipeline.settle import Settled
from xmoe.policy.families import list_families
from xmoe.policy.records import StackRow
from xmoe.run.folder import RunFile, RunFolder
from xmoe.training.closed import ClosedJob, Fitted, spread, stem_spec
from xmoe.training.ears import SoundSpec, Spec
from xmoe.training.kernel_features import (
    Features,
    FileDigests,
    Source,
    extend_features,
    measure_features,
)
from xmoe.training.known import Known, find_again, read_known
from xmoe.training.observe import MOST_CLIPS
from xmoe.training.promises import HeldTable, read_table
from xmoe.training.refit import refit

SHOWN = 3
_NAME = re.compile("[a-z0-9][a-z0-9_-]{0,63}")
_SPEC_MEND = "write a spec as `experts` in a run's run_config.json has them"


@dataclass(frozen=True)
class Grown:
    """What became of a run: how it is routed, and the table of its candidates.

    ``clips`` are those that it was fitted to, ``added`` of them now; ``passed`` were known.
    """

    settled: Settled
    rows: tuple[StackRow, ...]
    clips: int
    added: int = 0
    passed: int = 0


class _Run:
    """A run that is to be fitted anew."""

    def __init__(self, path: str | Path) -> None:
        self.folder = RunFolder(path)
        self.config: RunConfig = read_closed_config(self.folder)
        model = self.config.model
        self.specs = [spec for spec in model.experts if isinstance(spec, SoundSpec)]
        if trained := set(model.expert_names) - {spec.name for spec in self.specs}:
            raise ConfigError(
                f"gradients trained {', '.join(sorted(trained))}, which cannot be fitted anew",
                where=str(self.folder.path),
                mend="take it out first (xmoe expert remove), or train again",
            )
        check_windows(self.specs)
        self.known = read_known(self.folder.file(RunFile.KNOWN), self.folder.file(RunFile.FEATURES))
        self.record: dict[str, Any] = read_json(self.folder.file(RunFile.CLOSED))

    @cached_property
    def table(self) -> HeldTable:
        """The held-out answers so far."""
        task = task_of(self.config.model.task)
        names = self.config.model.expert_names
        return read_table(self.folder.file(RunFile.HELD_OUT), names, task)

    def job(self, dataset: Dataset) -> ClosedJob:
        """Return the job to fit it anew, with ``dataset`` as what is new."""
        return ClosedJob(
            dataset,
            self.config.spectro,
            self.folder.file(RunFile.FEATURES),
            int(self.record["sample_rate_hz"]),
            seed=self.config.train.seed,
        )

    def measured(self, specs: Sequence[SoundSpec]) -> list[Spec]:
        """Return what features are measured for: the stem and ``specs``."""
        return [stem_spec(self.config.spectro), *specs]

    def finish(self, fitted: Fitted, heard: Features, progress: Progress) -> Settled:
        """Route the run by what was fitted, and write it."""
        _, settled = settle_fit(
            self.folder, self.config, fitted, heard, before=self.table, progress=progress
        )
        record = self.record | describe_fit(fitted) | describe_routing(fitted.stacks, settled)
        self.folder.write_record(RunFile.CLOSED, record)
        # The last: until it is there the same command begins anew.
        Known(fitted.features, heard).save(self.folder.file(RunFile.KNOWN))
        keep_features(self.folder)
        return settled


def check_windows(specs: Sequence[SoundSpec]) -> None:
    """Raise ConfigError where an expert listens to salient windows alone.

    Which these are is found in all recordings with the stem that was fitted last.
    """
    for spec in specs:
        if isinstance(spec, BackboneSpec) and spec.windows is not None:
            raise ConfigError(
                f"{spec.name} hears the {spec.windows} most salient windows alone, which are found "
                "in all recordings at once",
                where="windows",
                mend="let it hear all of them (windows: null), take it out, or train again",
            )


def read_spec(text: str, folder: RunFolder) -> SoundSpec:
    """Return the expert that a JSON file describes, or the family of that name for a run's sounds.

    Raises ConfigError where it is neither, or none that can be fitted in closed form.
    """
    spectro = read_closed_config(folder).spectro
    clips = int(read_json(folder.file(RunFile.CLOSED))["clips"])
    families, dropped = list_families(spectro, num_clips=clips)
    known = {spec.name: spec for spec in families}
    if text in known:
        return known[text]
    if not Path(text).is_file():
        why = f"the family {text} is none for this run: {dropped[text]}" if text in dropped else ""
        raise ConfigError(
            why or f"no file and no family of experts is named {text}",
            where="SPEC",
            mend=f"name a JSON file with a spec, or one of {', '.join(known)}",
        )
    try:
        spec: ExpertSpec = TypeAdapter(ExpertSpec).validate_python(read_json(Path(text)))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "kind"
        raise ConfigError(f"field {field}: {first['msg']}", where=text, mend=_SPEC_MEND) from error
    if not isinstance(spec, SoundSpec):
        what = f"an expert of the kind {spec.kind} is trained by gradient"
        raise ConfigError(what, where=text, mend=_SPEC_MEND)
    if not _NAME.fullmatch(spec.name) or spec.name == STEM_NAME:
        mend = "use small letters, digits, _ and -; not stem"
        raise ConfigError(f"{spec.name!r} is no name for an expert", where=text, mend=mend)
    return spec


def keep_features(folder: RunFolder) -> int:
    """Remove all features but those that a run can grow from; returns how many bytes stay."""
    config = folder.read_config()
    known = read_known(folder.file(RunFile.KNOWN), folder.file(RunFile.FEATURES))
    specs = [spec for spec in config.model.experts if isinstance(spec, SoundSpec)]
    return known.prune([stem_spec(config.spectro), *specs])


def add_expert(
    path: str | Path, spec: SoundSpec, roots: Sequence[str | Path], *, progress: Progress = silent
) -> Grown:
    """Add an expert to a run; ``roots`` are the folders of the clips that it was fitted to.

    Raises ConfigError where the run has an expert of that name, DatasetError where clips are gone.
    """
    run = _Run(path)
    check_windows([spec])
    if spec.name in run.config.model.expert_names:
        raise ConfigError(
            f"the run has an expert {spec.name} already",
            where=str(run.folder.path),
            mend="give the new one another name, or remove the old one first",
        )
    model, known = run.config.model, run.known
    datasets = [
        Dataset(Path(root).resolve(), known.whole.examples, run.config.classes, model.task)
        for root in roots
    ]
    job, specs = run.job(datasets[0]), [*run.specs, spec]
    find = find_again(known.whole, datasets)

    def source_of(examples: Sequence[Example]) -> Source:
        return replace(job.source, dataset=find(examples))

    wanted = run.measured(specs)
    extend_features(known.whole, source_of, wanted, "whole", progress=progress)
    extend_features(known.noisy, source_of, wanted, "noisy", progress=progress)
    fitted = refit(job, known.whole, specs, run.record, order_anew=True, progress=progress)
    settled = run.finish(fitted, known.noisy, progress)
    return Grown(settled, fitted.rows, len(known.whole.examples))


def update_run(path: str | Path, more: Dataset, *, progress: Progress = silent) -> Grown:
    """Fit a run to more labelled clips as well; those of the test split are left out.

    Raises DatasetError for labels that the run does not know, for other bytes under the name of a
    known clip, and where nothing is new; ConfigError where the features were not kept.
    """
    run = _Run(path)
    check_labels(more, run.config)
    known, specs = run.known, run.measured(run.specs)
    if not known.holds(specs):
        raise ConfigError(
            "the run keeps no features of the clips that it was trained on, or not all of them",
            where=str(run.folder.file(RunFile.FEATURES)),
            mend="train again on all clips together",
        )
    fresh, passed = pick_fresh(more, known)
    job = run.job(replace(more, classes=run.config.classes))
    new = measure_features(job.source, fresh, specs, progress=progress)
    features = known.whole.join(new)
    fitted = refit(job, features, run.specs, run.record, progress=progress)
    watched = spread(new.examples, MOST_CLIPS, job.seed)
    noisy = measure_features(job.source, watched, specs, copies=("noisy",), progress=progress)
    settled = run.finish(fitted, known.noisy.join(noisy), progress)
    return Grown(settled, fitted.rows, len(features.examples), len(new.examples), passed)


def check_labels(more: Dataset, config: RunConfig) -> None:
    """Raise DatasetError where clips have labels that the run does not know."""
    if strange := sorted(set(more.classes) - set(config.classes)):
        raise DatasetError(
            f"the run does not know the labels {', '.join(strange)}",
            where=str(more.root),
            mend=f"use its labels ({', '.join(config.classes)}), or train again on all clips",
        )


def pick_fresh(more: Dataset, known: Known) -> tuple[list[Example], int]:
    """Return the clips that the run was not fitted to, and how many it was.

    A clip is known by its bytes and times, whatever its name. DatasetError where a name stands for
    other bytes than before, and where nothing is new.
    """
    digest, whole = FileDigests(more), known.whole
    names = {one.clip_id for one in whole.examples}
    pairs = zip(whole.examples, whole.digests, strict=True)
    contents = {(own, one.start_s, one.end_s) for one, own in pairs}
    asked = [*more.split("train"), *more.split("val")]
    fresh = [one for one in asked if (digest(one), one.start_s, one.end_s) not in contents]
    if taken := [one.filepath for one in fresh if one.clip_id in names]:
        shown = ", ".join(taken[:SHOWN]) + (" ..." if taken[SHOWN:] else "")
        raise DatasetError(
            f"{len(taken)} files have the names of known clips and other bytes: {shown}",
            where=str(more.root),
            mend="give new recordings new names, or put them into a folder of their own",
        )
    if not fresh:
        raise DatasetError(
            f"nothing is new: the run was trained on all {len(asked)} clips",
            where=str(more.root),
            mend="name clips that it does not know",
        )
    return fresh, len(asked) - len(fresh)
