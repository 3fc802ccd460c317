"""Settings + recordings -> a run folder that answers, in closed form: the first phase of training.

A checkpoint holds the settings that it was made with, so a run answers wherever it was stopped. The
record of this phase comes last: without it the phase is repeated, from cached features.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from xmoe.audio.dataset import Dataset
from xmoe.audio.segment import Segment
from xmoe.base.config import ModelConfig, RoutingConfig, RunConfig
from xmoe.base.errors import RunFolderError
from xmoe.base.files import RESTORE, read_json
from xmoe.base.progress import Progress, silent
from xmoe.experts.head import LinearHead
from xmoe.frontend.measure import measure_segments
from xmoe.frontend.registry import build_frontend
from xmoe.frontend.threads import time_ms
from xmoe.mixture.moe import MoE, split_weights
from xmoe.mixture.promise_router import STEM_NAME
from xmoe.pipeline.request import FitRequest
from xmoe.pipeline.settle import Costs, Settled, settle_routing
from xmoe.policy.policy import Policy
from xmoe.policy.records import Choice, StackRow
from xmoe.predict.golden import write_golden
from xmoe.profile.profile import Profile
from xmoe.routing.stack import Stack
from xmoe.run.folder import RunFile, RunFolder
from xmoe.training.closed import ClosedJob, Fitted, fit_closed
from xmoe.training.dear import fitted_stem
from xmoe.training.ears import StemSpec
from xmoe.training.kernel_features import Features, feature_key
from xmoe.training.known import Known
from xmoe.training.observe import measure_noisy, observe
from xmoe.training.pieces import SPEEDS
from xmoe.training.promises import HeldTable

# What a mixture that gradients train begins with.
OF_GRADIENTS = ("expert_priors", "masked_experts")


def fit_closed_run(
    folder: RunFolder,
    config: RunConfig,
    dataset: Dataset,
    request: FitRequest,
    *,
    progress: Progress = silent,
) -> RunConfig:
    """Fit in closed form; write checkpoint, settings and records, and return the settings.

    Of many clips, a mixture that was fitted on some of them answers while the rest is heard.
    """
    began = time.monotonic()
    profile = folder.read_record(RunFile.PROFILE, Profile)
    job = ClosedJob(
        dataset,
        config.spectro,
        folder.file(RunFile.FEATURES),
        profile.fs_mode_hz,
        wishes=request.overrides,
        backbones=request.backbones,
        seed=config.train.seed,
        run=request.measurer,
    )
    wished = RoutingConfig(budget=request.budget)
    config = config.model_copy(update={"routing": wished})

    def write_first(fitted: Fitted) -> None:
        noisy = measure_noisy(fitted, progress=progress)
        settle_fit(folder, config, fitted, noisy, progress=progress)
        clips = f"{len(fitted.features.examples)} of {len(dataset.examples)} clips"
        progress("first mixture", 1, 1, f"{clips} known, and the run answers; the fit goes on")

    fitted = fit_closed(job, first=write_first, progress=progress)
    noisy = measure_noisy(fitted, progress=progress)
    config, settled = settle_fit(folder, config, fitted, noisy, progress=progress)
    Known(fitted.features, noisy).save(folder.file(RunFile.KNOWN))
    record = describe_fit(fitted) | {"minutes": round((time.monotonic() - began) / 60, 3)}
    folder.write_record(RunFile.CLOSED, record | describe_routing(fitted.stacks, settled))
    return config


def settle_fit(
    folder: RunFolder,
    config: RunConfig,
    fitted: Fitted,
    noisy: Features,
    *,
    before: HeldTable | None = None,
    progress: Progress = silent,
) -> tuple[RunConfig, Settled]:
    """Route a fitted mixture by the budget of ``config``; write all of it but its records.

    ``noisy`` and ``before`` are those of ``observe``.
    """
    settings = model_config(config.model, fitted)
    model = build_model(fitted, settings)
    table = observe(fitted, model, noisy, before=before, progress=progress)
    costs = Costs(fitted.ms, partial(look_up_glance_ms, fitted.job, model))
    budget = config.routing.budget
    settled = settle_routing(model, table, fitted.stacks, costs, budget, config.classes)
    progress("calibrate", 1, 1, "; ".join(settled.routing.reasons.values()))
    config = config.model_copy(update={"model": settings, "routing": settled.routing})
    policy = folder.read_record(RunFile.POLICY, Policy)
    folder.write_record(
        RunFile.POLICY, with_selection(policy, settings, fitted.rows, choose_speeds(fitted))
    )
    write_routing(folder, config, model, settled, table)
    return config, settled


def write_routing(
    folder: RunFolder, config: RunConfig, model: MoE, settled: Settled, table: HeldTable
) -> None:
    """Write a mixture with its router filled as the answering checkpoint, and its settings.

    Its held-out answers change with it.
    """
    folder.save_checkpoint(
        "closed",
        split_weights(model),
        {"phase": "closed"},
        which=("best", "last"),
        config=config,
        files={RunFile.HELD_OUT: table.to_bytes()},
    )
    folder.file(RunFile.HELD_OUT).unlink(missing_ok=True)  # of an earlier release
    folder.write_record(RunFile.EVENTS, settled.events)
    if settled.conformal is not None:
        folder.write_record(RunFile.CONFORMAL, settled.conformal)
    write_golden(folder)


def model_config(model: ModelConfig, fitted: Fitted) -> ModelConfig:
    return ModelConfig(
        task=model.task,
        num_classes=model.num_classes,
        stem="kernels",
        router="promise",
        experts=fitted.specs,
        k_max=len(fitted.specs),
        window_frames=model.window_frames,
    )


def build_model(fitted: Fitted, settings: ModelConfig) -> MoE:
    """The mixture with its stem and experts; its router promises nothing yet."""
    model = MoE(settings, fitted.job.spectro).eval()
    stem = fitted_stem(fitted.job.spectro, fitted.heads[STEM_NAME])
    model.stem.load_state_dict(stem.state_dict())
    for name in fitted.names:
        head, linear = fitted.heads[name], model.experts[name].head
        assert head.scaling is not None
        assert isinstance(linear, LinearHead)
        linear.fill(head.scaling, *head.sharp_head())
    return model


def look_up_glance_ms(job: ClosedJob, model: MoE) -> float:
    stem = feature_key(StemSpec(spectro=job.spectro))
    read = ["glance", "saliency"] if model.needs_saliency(RoutingConfig()) else ["glance"]
    what = [*read, stem, job.sample_rate_hz, job.dataset.classes]
    return job.costs.look_up(what, partial(measure_glance_ms, model, job.sample_rate_hz))


def measure_glance_ms(model: MoE, sample_rate_hz: int) -> float:
    """Milliseconds of one core for a segment without any expert, best of several."""
    spectro = model.spectro
    count = max(round(spectro.segment_s * sample_rate_hz), 1)
    noise = np.random.default_rng(0).standard_normal(count).astype(np.float32)
    segments = [Segment(noise, sample_rate_hz, 0)]
    frontend = build_frontend(spectro)

    def glance() -> None:
        spec = frontend.compress(*measure_segments(segments, frontend))
        model.prepare(spec, RoutingConfig(), k=0, only_needed=True)

    return time_ms(glance)


def read_fit(folder: RunFolder) -> dict[str, Any]:
    """The record of a run's fit in closed form; RunFolderError where it is none."""
    path = folder.file(RunFile.CLOSED)
    record = read_json(path)
    if not isinstance(record, dict) or not {"clips", "sample_rate_hz", "weights"} <= record.keys():
        raise RunFolderError("not the record of a fit", where=str(path), mend=RESTORE)
    return record


def describe_fit(fitted: Fitted) -> dict[str, object]:
    return {
        "schema_version": 1,
        "sources": fitted.sources,
        "judged": fitted.judged,
        "speeds": fitted.speeds,
        "clips": len(fitted.features.examples),
        "segments": len(fitted.targets.rows),
        "sample_rate_hz": fitted.job.sample_rate_hz,
        "candidates": [row.model_dump() for row in fitted.rows],
        "dropped": dict(fitted.dropped),
    }


def describe_routing(stacks: Sequence[Stack], settled: Settled) -> dict[str, object]:
    return {
        "weights": [stack.weights for stack in stacks],
        "first_most": settled.promised.promises.first_most,
        "prices": [point.model_dump() for point in settled.priced.points],
        "doubt": settled.doubt.model_dump(),
    }


def choose_speeds(fitted: Fitted) -> Choice:
    value = [] if fitted.features.copied is None else [speed / 10 for speed in SPEEDS.values()]
    return Choice(name="speeds", value=value, reason=fitted.speeds, source="race")


def with_selection(
    policy: Policy, model: ModelConfig, rows: Sequence[StackRow], *others: Choice
) -> Policy:
    """The policy with the selected experts, the table of all candidates and ``others`` chosen."""
    names = model.expert_names
    reasons = "; ".join(f"{row.name}: {row.reason}" for row in rows if row.name in names)
    chosen = {
        "experts": Choice(name="experts", value=list(names), reason=reasons, source="race"),
        "k_max": Choice(
            name="k_max", value=len(names), reason="any number of them may be asked", source="race"
        ),
    }
    chosen |= {choice.name: choice for choice in others}
    kept = [choice for choice in policy.choices if choice.name not in OF_GRADIENTS]
    choices = {choice.name: choice for choice in kept} | chosen
    return policy.model_copy(
        update={
            "experts": names,
            "k_max": len(names),
            "masked_experts": (),
            "mask_reasons": {},
            "expert_priors": {},
            "choices": tuple(choices.values()),
            "candidates": tuple(rows),
        }
    )
