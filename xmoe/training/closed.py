"""Recordings -> a whole mixture in closed form: stem, experts, their weights and their order.

Candidates are searched on some of the clips; those selected are fitted on all of them. Every number
that decides anything comes from answers to clips whose source was left out. There are no gradients
and no epochs: the time goes into computing the features, and those are cached.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from xmoe.audio.dataset import Dataset, Example
from xmoe.base.config import BackboneSpec, KernelsSpec, SpectroConfig
from xmoe.base.progress import Progress, silent
from xmoe.base.task import Task, task_of
from xmoe.experts.ridge import Floats, Ints
from xmoe.frontend.threads import one_thread
from xmoe.mixture.promise_router import STEM_NAME
from xmoe.policy.families import list_families, most_wanted, pick_wanted
from xmoe.policy.policy import NO_OVERRIDES
from xmoe.policy.race import mean_and_error
from xmoe.policy.records import PolicyOverrides, StackRow, number_rows
from xmoe.routing.stack import Stack
from xmoe.training.costs import CostBook, measure_ms
from xmoe.training.dear import fitted_stem, list_backbones, look_where, select_in_tiers
from xmoe.training.ears import SoundSpec, Spec, StemSpec, pick_kernels
from xmoe.training.heads import NO_ROWS, HeadFit, Targets, fit_either, fit_scaled
from xmoe.training.hold_out import HoldOut, choose_judges, plan_hold_out
from xmoe.training.kernel_features import (
    WORKERS,
    Features,
    Runner,
    Source,
    feature_key,
    measure_features,
    run_here,
)
from xmoe.training.pieces import SPEEDS, spread
from xmoe.training.stack import HeldOut, fit_stack

# Of 1,000, 600 and 400, the fewest that cost no accuracy on held-out clips of the spoken digits.
SEARCH_CLIPS = 600
# Heads cost the cube of rows; of 400 and 600 that have copies at other speeds too, no worse.
COPIED_ROWS = 400
# Standard errors by which copies must lose: they help on sources that differ more than those left
# out here, so a smaller loss says nothing (benchmarks/speeds.py).
CLEAR_SE = 2.0
HEADS_AT_ONCE = min(WORKERS, 4)  # each holds an eigenbasis in memory
# An expert that weighs less than this changes no answer.
LEAST_WEIGHT = 1e-3


@dataclass(frozen=True)
class ClosedJob:
    """What to fit: the training and validation clips of ``dataset``, with the stem on ``spectro``.

    Most clips come at ``sample_rate_hz``, for which costs are measured; ``cache`` keeps features
    from one fit to the next, and ``run`` computes them. ``wishes`` bound how many experts there
    are, or name their families. ``backbones`` are pretrained networks to try as well.
    """

    dataset: Dataset
    spectro: SpectroConfig
    cache: Path
    sample_rate_hz: int
    wishes: PolicyOverrides = NO_OVERRIDES
    backbones: tuple[BackboneSpec, ...] = ()
    balanced: bool = False
    seed: int = 0
    run: Runner = run_here

    @property
    def task(self) -> Task:
        return task_of(self.dataset.task)

    @property
    def costs(self) -> CostBook:
        return CostBook(self.cache / "costs.json")

    @property
    def source(self) -> Source:
        return Source(self.dataset, self.spectro.segment_s, self.cache, self.run)


@dataclass(frozen=True)
class Fitted:
    """Stem and experts with their held-out answers.

    ``specs`` are the experts in the order in which they are asked; ``heads`` and ``ms`` are by
    name, the stem's under ``stem``. ``stacks[k]`` weighs the stem and the first k experts. ``rows``
    is the table of all candidates, ``dropped`` why other families are no candidates; ``judged`` and
    ``sources`` tell how answers were held out, ``speeds`` why heads are fitted on copies at other
    speeds or not.
    """

    job: ClosedJob
    specs: tuple[SoundSpec, ...]
    features: Features
    targets: Targets
    units: Ints
    heads: Mapping[str, HeadFit]
    ms: Mapping[str, float]
    stacks: tuple[Stack, ...]
    rows: tuple[StackRow, ...]
    dropped: Mapping[str, str]
    judged: str
    sources: str
    speeds: str

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(spec.name for spec in self.specs)


def fit_closed(
    job: ClosedJob, *, first: Callable[[Fitted], None] | None = None, progress: Progress = silent
) -> Fitted:
    """Fit stem and experts; DatasetError where no clip can be read.

    Experts are searched on some of many clips, and then fitted on all; ``first`` is given the
    mixture of those of the search, as soon as it is known.
    """
    known = [*job.dataset.split("train"), *job.dataset.split("val")]
    candidates, dropped = list_families(job.spectro, num_clips=len(known))
    cheap = pick_wanted(candidates, job.wishes)
    dear = list_backbones(job.backbones, job.spectro.segment_s)
    searched = spread(known, SEARCH_CLIPS, job.seed)
    fits = _fit_all(job, searched, [*cheap, *dear], progress)
    ms = measure_costs([*cheap, *dear], job, progress)
    held, names = fits.hold_out(), [spec.name for spec in dear]
    selection, leading, added = select_in_tiers(held, ms, dear=names, always=[STEM_NAME])
    leading = leading[: most_wanted(job.wishes, len(added))]
    taken = [*leading, *added]
    progress("experts", 1, 1, f"{', '.join(taken)} of {len(cheap) + len(dear)} candidates")
    specs = [by_name([*cheap, *dear])[name] for name in taken]

    def mix(fits: _Fits, speeds: str) -> Fitted:
        kept = weigh_by_depth(fits.hold_out(), leading, added)
        return Fitted(
            job=job,
            specs=tuple(spec for spec in specs if spec.name in kept[-1].weights),
            features=fits.features,
            targets=fits.targets,
            units=fits.units,
            heads={name: fits.heads[name] for name in kept[-1].weights},
            ms=ms,
            stacks=kept,
            rows=number_rows(selection.rows, kept[-1].weights),
            dropped=dropped,
            judged=fits.judged,
            sources=fits.plan.words,
            speeds=speeds,
        )

    if first is not None and len(known) > len(searched):
        first(mix(fits, "not tried yet"))
    fits, speeds = _choose_speeds(job, fits, specs, progress)
    if len(known) > len(searched):
        every = list(dict.fromkeys([*searched, *known]))  # most features of the first are cached
        fits = _fit_all(job, every, specs, progress, copied=fits.features.copied)
    return mix(fits, speeds)


@dataclass(frozen=True)
class _Fits:
    """Features of clips, the targets of heads, how they are held out and judged, and the heads."""

    features: Features
    targets: Targets
    plan: HoldOut
    judged: str
    heads: Mapping[str, HeadFit]

    @property
    def units(self) -> Ints:
        return self.plan.units[self.features.owners]

    def hold_out(self) -> HeldOut:
        return hold_out(self.heads, self.targets, self.units)


def _fit_all(
    job: ClosedJob,
    clips: Sequence[Example],
    specs: Sequence[SoundSpec],
    progress: Progress,
    *,
    copied: Features | None = None,
) -> _Fits:
    stem = StemSpec(spectro=job.spectro)
    features = measure_features(job.source, clips, [stem, *specs], progress=progress)
    features = replace(features, copied=copied)
    targets, plan, judged, first = read_targets(job, features, stem)
    features, heads = fit_all_heads(job, features, specs, targets, progress, first=first)
    return _Fits(features, targets, plan, judged, heads)


def _choose_speeds(
    job: ClosedJob, alone: _Fits, specs: Sequence[SoundSpec], progress: Progress
) -> tuple[_Fits, str]:
    """Fit heads on copies at other speeds too, unless held-out answers clearly lose by it.

    Why is said in words. Nobody asks a copy, so what they gain is judged on the clips as they are;
    and without networks, so that one that is added later finds the heads that it would have found.
    """
    examples = alone.features.examples
    names = [STEM_NAME, *(spec.name for spec in specs if isinstance(spec, KernelsSpec))]
    most = COPIED_ROWS * len(examples) // len(alone.targets.rows)
    copied = measure_copies(job, spread(examples, most, job.seed), specs, progress)
    more = _fit_all(job, examples, specs, progress, copied=copied)
    losses = []
    for fits in (alone, more):
        held = hold_out({name: fits.heads[name] for name in names}, alone.targets, alone.units)
        losses.append(held.losses(fit_stack(held, names).combine(held.logits)))
    gain, error = mean_and_error(losses[0] - losses[1], held.units)
    words = (
        f"held-out log loss {losses[1].mean():.3f} with copies at 0.9 and 1.1 of the speed, "
        f"{losses[0].mean():.3f} without: {abs(gain):.3f} ± {error:.3f} "
        f"{'less' if gain > 0 else 'more'}"
    )
    progress("speeds", 1, 1, words)
    return (more if gain > -CLEAR_SE * error else alone), words


def measure_copies(
    job: ClosedJob, examples: Sequence[Example], specs: Sequence[SoundSpec], progress: Progress
) -> Features:
    """Features of copies at other speeds."""
    heard, copies = [StemSpec(spectro=job.spectro), *pick_kernels(specs)], list(SPEEDS)
    return measure_features(job.source, examples, heard, copies=copies, progress=progress)


def fit_all_heads(
    job: ClosedJob,
    features: Features,
    specs: Sequence[SoundSpec],
    targets: Targets,
    progress: Progress,
    *,
    first: HeadFit | None = None,
) -> tuple[Features, dict[str, HeadFit]]:
    """Heads of the stem and ``specs``, and features that know where sparse experts look.

    ``first`` is the stem's where it is fitted already.
    """
    stem = StemSpec(spectro=job.spectro)
    heads = {STEM_NAME: first or fit_one(features, stem, targets)}
    if hears_few(specs):
        belief = job.task.belief(torch.from_numpy(heads[STEM_NAME].held_out).float())
        fitted = fitted_stem(job.spectro, heads[STEM_NAME])
        features = look_where(
            job.source, features, fitted, {"whole": belief}, spectro=job.spectro, progress=progress
        )
    return features, heads | fit_heads(features, by_name(specs), targets, progress)


def hears_few(specs: Sequence[SoundSpec]) -> bool:
    """Whether some of the experts are sent salient windows alone."""
    return any(isinstance(spec, BackboneSpec) and spec.windows for spec in specs)


def by_name(specs: Sequence[SoundSpec]) -> dict[str, SoundSpec]:
    return {spec.name: spec for spec in specs}


def read_targets(
    job: ClosedJob, features: Features, stem: StemSpec
) -> tuple[Targets, HoldOut, str, HeadFit | None]:
    """Targets of heads, row by row, what is held out together, and in words what judges.

    Last comes the stem's head on those targets, where the choice of the judges took it.
    """
    examples, owners = features.examples, features.owners
    task, classes = job.task, len(job.dataset.classes)
    rows = task.rows(job.dataset.targets(examples), classes)[owners]
    plan = plan_hold_out(examples)
    shares = 1.0 / features.counts[owners]
    everyone = np.ones(len(rows), dtype=bool)
    targets = Targets(
        rows,
        plan.groups[owners],
        everyone,
        task,
        shares=shares,
        balanced=job.balanced,
        copies=features.copied_rows(),
    )
    first = fit_one(features, stem, targets)
    right = rightness(first.held_out, rows, task)
    per_clip = np.bincount(owners, right) / np.bincount(owners)
    judges, words = choose_judges(plan, per_clip)
    judging = judges[owners]
    return replace(targets, judges=judging), plan, words, first if judging.all() else None


def fit_heads(
    features: Features, specs: Mapping[str, Spec], targets: Targets, progress: Progress
) -> dict[str, HeadFit]:
    """The head of each spec with its held-out answers, a few at a time.

    Each is fitted by one thread, so their number at once changes no weight.
    """
    heads = {}
    with one_thread(), ThreadPoolExecutor(HEADS_AT_ONCE, thread_name_prefix="heads") as pool:
        tasks = [pool.submit(fit_one, features, spec, targets) for spec in specs.values()]
        for done, (name, task) in enumerate(zip(specs, tasks, strict=True), 1):
            heads[name] = task.result()
            progress("heads", done, len(specs))
    return heads


def fit_one(features: Features, spec: Spec, targets: Targets) -> HeadFit:
    """The head of a spec: a network's on the clips alone, the stem's on features as they are.

    Every cell's share of the stem's answer is then exact.
    """
    if isinstance(spec, BackboneSpec):
        return fit_scaled(partial(features.blocks, spec), replace(targets, copies=NO_ROWS))
    fit = fit_either if isinstance(spec, StemSpec) else fit_scaled
    return fit(partial(features.to_fit, spec), targets)


def measure_costs(
    candidates: Sequence[SoundSpec], job: ClosedJob, progress: Progress
) -> dict[str, float]:
    costs = {}
    for done, spec in enumerate(candidates, 1):
        windows = spec.windows if isinstance(spec, BackboneSpec) else None
        what = [feature_key(spec), job.sample_rate_hz, job.spectro.segment_s, windows]
        costs[spec.name] = job.costs.look_up(
            what,
            partial(
                measure_ms,
                spec,
                sample_rate_hz=job.sample_rate_hz,
                duration_s=job.spectro.segment_s,
            ),
        )
        progress("costs", done, len(candidates))
    return costs


def hold_out(heads: Mapping[str, HeadFit], targets: Targets, units: Ints) -> HeldOut:
    """Held-out answers of heads to the rows that judge."""
    judges = targets.judges
    logits = {name: head.held_out[judges] for name, head in heads.items()}
    return HeldOut(logits, targets.rows[judges], units[judges], targets.task)


def weigh_by_depth(
    held: HeldOut, first: Sequence[str], added: Sequence[str] = ()
) -> tuple[Stack, ...]:
    """Weights of the stem and the first 0, 1, ... experts.

    An expert that weighs nothing beside all the others is dropped. The ``first`` are weighed among
    themselves, for they are also asked without the expensive ones that were ``added``.
    """
    weights = fit_stack(held, [STEM_NAME, *first]).weights
    names = [name for name in first if weights[name] > LEAST_WEIGHT] or list(first[:1])
    if added:
        weights = fit_stack(held, [STEM_NAME, *names, *added]).weights
        names += [name for name in added if weights[name] > LEAST_WEIGHT]
    return stack_depths(held, names)


def stack_depths(held: HeldOut, names: Sequence[str]) -> tuple[Stack, ...]:
    """Weights of the stem and the first 0, 1, ... of the experts ``names``."""
    return tuple(_weigh(held, [STEM_NAME, *names[:k]]) for k in range(len(names) + 1))


def _weigh(held: HeldOut, names: Sequence[str]) -> Stack:
    """Weights of ``names``; where none deserves any, all get the same small one.

    Their answer is then nearly flat, as it should be where all are wrong on every source left out.
    """
    stack = fit_stack(held, names)
    if sum(stack.weights.values()) >= LEAST_WEIGHT:
        return stack
    return Stack(weights=dict.fromkeys(names, LEAST_WEIGHT / len(names)))


def rightness(logits: Floats, rows: Floats, task: Task) -> Floats:
    """How right each answer is [n], from 0 to 1."""
    return task.rightness(torch.from_numpy(logits), torch.from_numpy(rows)).double().numpy()
