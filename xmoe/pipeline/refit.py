"""A run in closed form + one more expert, or more labelled clips -> the run, fitted anew.

Experts stay and nothing is searched: heads, weights and promises are fitted from features that the
run keeps; only what is new is measured. A run that is stopped in between answers as before or as
afterwards, and the same command resumes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from xmoe.audio.dataset import Dataset
from xmoe.audio.quarantine import Quarantined
from xmoe.base.config import BackboneSpec, ExpertSpec, RunConfig
from xmoe.base.errors import ConfigError
from xmoe.base.files import read_json
from xmoe.base.progress import Progress, silent
from xmoe.base.task import task_of
from xmoe.mixture.promise_router import STEM_NAME
from xmoe.pipeline.closed import describe_fit, describe_routing, read_fit, settle_fit
from xmoe.pipeline.network import NETWORK, forget_judgement
from xmoe.pipeline.outcome import renew_architecture
from xmoe.pipeline.recalibrate import read_closed_config
from xmoe.pipeline.request import Offered, read_cards
from xmoe.pipeline.settle import Settled
from xmoe.policy.families import list_families
from xmoe.policy.records import StackRow
from xmoe.run.folder import RunFile, RunFolder
from xmoe.training.closed import ClosedJob, Fitted
from xmoe.training.dear import list_backbones
from xmoe.training.ears import SoundSpec, Spec, StemSpec, pick_kernels
from xmoe.training.kernel_features import Features, extend_features
from xmoe.training.known import Known, find_again, read_known
from xmoe.training.observe import look_where_noisy
from xmoe.training.pieces import SPEEDS
from xmoe.training.promises import HeldTable, read_table
from xmoe.training.refit import refit, refit_beside

SHOWN = 3  # file names in a message
_NAME = re.compile("[a-z0-9][a-z0-9_-]{0,63}")  # also names a file and a module
_SPEC_MEND = "write a spec as `experts` in a run's run_config.json has them"


@dataclass(frozen=True)
class Grown:
    """How a run is routed now, and the table of its candidates.

    It is fitted to ``clips``, ``added`` of them now; ``passed`` were known already, ``tested`` are
    of its own test split, and ``bad`` cannot be used. ``tried`` are the experts that were to be
    added.
    """

    settled: Settled
    rows: tuple[StackRow, ...]
    clips: int
    added: int = 0
    passed: int = 0
    tested: int = 0
    bad: tuple[Quarantined, ...] = ()
    tried: tuple[str, ...] = ()


class RefitRun:
    """A run that is to be fitted anew; ``finish`` writes what it became."""

    def __init__(self, path: str | Path) -> None:
        self.folder = RunFolder(path)
        self.config: RunConfig = read_closed_config(self.folder)
        model = self.config.model
        self.specs = [spec for spec in model.experts if isinstance(spec, SoundSpec)]
        if trained := set(model.expert_names) - {spec.name for spec in self.specs}:
            raise ConfigError(
                f"gradients trained {', '.join(sorted(trained))}, which cannot be fitted anew",
                where=str(self.folder.path),
                mend="take it out first (xmoe expert remove); afterwards xmoe train --resume --fit "
                "both judges it again, without training it, beside what the run is then",
            )
        self.known = read_kept(self.folder)
        self.record = read_fit(self.folder)

    @cached_property
    def table(self) -> HeldTable:
        task = task_of(self.config.model.task)
        names = self.config.model.expert_names
        return read_table(self.folder.mixture_file(RunFile.HELD_OUT), names, task)

    def job(self, dataset: Dataset) -> ClosedJob:
        """The job that fits it anew; ``dataset`` holds the new clips."""
        return ClosedJob(
            dataset,
            self.config.spectro,
            self.folder.file(RunFile.FEATURES),
            int(self.record["sample_rate_hz"]),
            seed=self.config.train.seed,
        )

    def measured(self, specs: Sequence[SoundSpec]) -> list[Spec]:
        """The stem and ``specs``, for which features are computed."""
        return [StemSpec(spectro=self.config.spectro), *specs]

    def grow(
        self,
        new: Sequence[SoundSpec],
        roots: Sequence[str | Path],
        fit: Callable[..., Fitted],
        progress: Progress,
    ) -> Grown:
        """Compute features of ``new`` experts for the run's clips, and ``fit`` all of them."""
        names = {spec.name for spec in new}
        # One without a weight in the record was added by a command that was stopped then.
        finished = set(self.record["weights"][-1])
        self.specs = [spec for spec in self.specs if spec.name not in names - finished]
        if taken := names & finished:
            what = f"the run already has an expert {', '.join(sorted(taken))}"
            mend = "give the new one another name, or remove the old one first"
            raise ConfigError(what, where=str(self.folder.path), mend=mend)
        # Networks choose their windows again, by the stem of all clips.
        whole, noisy = replace(self.known.whole, focus={}), replace(self.known.noisy, focus={})
        job = self.job(find_again(whole, [self.dataset(root) for root in roots]))
        specs = [*self.specs, *new]
        wanted = self.measured(specs)
        extend_features(whole, job.source, wanted, "whole", progress=progress)
        extend_features(noisy, job.source, wanted, "noisy", progress=progress)
        if whole.copied is not None:
            for copy in SPEEDS:
                heard = pick_kernels(wanted)
                extend_features(whole.copied, job.source, heard, copy, progress=progress)
        fitted = fit(job, whole, specs, self.record, progress=progress)
        settled, tried = self.finish(fitted, noisy, progress), tuple(spec.name for spec in new)
        return Grown(settled, fitted.rows, len(whole.examples), tried=tried)

    def dataset(self, root: str | Path) -> Dataset:
        """The run's clips as if all of them lay in one folder."""
        task, classes = self.config.model.task, self.config.classes
        return Dataset(Path(root).resolve(), self.known.whole.examples, classes, task)

    def finish(
        self, fitted: Fitted, noisy: Features, progress: Progress, *, has_new_clips: bool = False
    ) -> Settled:
        """Write what the run became, last the record by which the same command starts over."""
        noisy = look_where_noisy(fitted, noisy)
        _, settled = settle_fit(
            self.folder, self.config, fitted, noisy, before=self.table, progress=progress
        )
        forget_judgement(self.folder)
        renew_architecture(self.folder)
        record = read_fit(self.folder) | describe_fit(fitted)
        record |= describe_routing(fitted.stacks, settled)
        known, where = Known(fitted.features, noisy), self.folder.file(RunFile.KNOWN)
        # An expert is known by its weight in the record of the fit, clips by the table of clips.
        if not has_new_clips:
            known.save(where)
        self.folder.write_record(RunFile.CLOSED, record)
        if has_new_clips:
            known.save(where)
        keep_features(self.folder)
        return settled


def read_kept(folder: RunFolder) -> Known:
    segment_s = folder.read_config().spectro.segment_s
    return read_known(folder.file(RunFile.KNOWN), folder.file(RunFile.FEATURES), segment_s)


def read_spec(text: str, folder: RunFolder) -> SoundSpec:
    """The expert that a JSON file describes, or the family of that name for a run's sounds.

    Raises ConfigError where it is neither, or none that can be fitted in closed form.
    """
    spectro = read_closed_config(folder).spectro
    clips = int(read_fit(folder)["clips"])
    families, dropped = list_families(spectro, num_clips=clips)
    known = {spec.name: spec for spec in families}
    if text in known:
        return known[text]
    if not Path(text).is_file():
        why = f"the family {text} does not fit this run: {dropped[text]}" if text in dropped else ""
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
    if not _NAME.fullmatch(spec.name) or spec.name in (STEM_NAME, NETWORK):
        mend = f"use small letters, digits, _ and -; not {STEM_NAME} or {NETWORK}"
        raise ConfigError(f"{spec.name!r} cannot name an expert", where=text, mend=mend)
    return spec


def keep_features(folder: RunFolder) -> int:
    """Remove all features but those a run can grow from; returns the bytes that stay."""
    config, known = folder.read_config(), read_kept(folder)
    specs = [spec for spec in config.model.experts if isinstance(spec, SoundSpec)]
    return known.prune([StemSpec(spectro=config.spectro), *specs])


def add_expert(
    path: str | Path, spec: SoundSpec, roots: Sequence[str | Path], *, progress: Progress = silent
) -> Grown:
    """Add an expert to a run; ``roots`` are the folders of the clips that it was fitted to.

    Raises ConfigError where the run has an expert of that name, DatasetError where clips are
    missing.
    """
    with RunFolder(path).changing():
        run = RefitRun(path)
        return run.grow([spec], roots, partial(refit, order_anew=True), progress)


def offer_backbone(
    path: str | Path,
    spec: BackboneSpec,
    roots: Sequence[str | Path],
    *,
    progress: Progress = silent,
) -> Grown:
    """Offer a pretrained network to a run as training does: with all or the salient windows.

    It is not taken unless it pays, and the run's other networks are chosen again beside it.
    Otherwise as ``add_expert``.
    """
    folder = RunFolder(path)
    with folder.changing():
        run = RefitRun(path)
        offered = list_backbones([spec], run.config.spectro.segment_s)
        grown = run.grow(offered, roots, refit_beside, progress)
        before = folder.file(RunFile.OFFERED)
        known = folder.read_record(RunFile.OFFERED, Offered) if before.is_file() else Offered()
        folder.write_record(RunFile.OFFERED, Offered(backbones=(*known.backbones, spec)))
    return grown


def grow_run(
    path: str | Path,
    text: str,
    roots: Sequence[str | Path],
    *,
    trust: Sequence[str] = (),
    progress: Progress = silent,
) -> Grown:
    """Add the family that ``text`` names, or the spec or the network of the JSON file."""
    record = read_json(Path(text)) if Path(text).is_file() else None
    if isinstance(record, dict) and "embedding_size" in record:
        (card,) = read_cards([text], trust)
        return offer_backbone(path, card, roots, progress=progress)
    return add_expert(path, read_spec(text, RunFolder(path)), roots, progress=progress)
