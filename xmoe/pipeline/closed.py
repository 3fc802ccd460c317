"""Settings + recordings -> a run folder that answers, in closed form: the first phase of training.

The checkpoint is there before the settings name its experts, and the record of this phase comes
last: a run that was stopped in between does this phase again, from features that are cached.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xmoe.annotate.thresholds import Thresholds, find_thresholds
from xmoe.audio.dataset import Dataset
from xmoe.audio.segment import Segment
from xmoe.base.config import ModelConfig, RoutingConfig, RunConfig
from xmoe.base.progress import Progress, silent
from xmoe.experts.probabilities import to_probabilities
from xmoe.frontend.measure import measure_segments
from xmoe.frontend.registry import build_frontend
from xmoe.frontend.threads import one_thread
from xmoe.glance.kernel_stem import KernelStem
from xmoe.mixture.moe import MoE, split_weights
from xmoe.mixture.promise_router import STEM_NAME
from xmoe.policy.policy import Policy
from xmoe.policy.records import Choice
from xmoe.profile.profile import Profile
from xmoe.run.folder import RunFile, RunFolder
from xmoe.training.budget import (
    Doubt,
    Priced,
    answers_at,
    choose_doubt,
    choose_price,
    top_probability,
)
from xmoe.training.closed import ClosedJob, Fitted, fit_closed, rightness
from xmoe.training.promises import Promised, promise, router_of

_TRIALS = 5
_WHOLE = "experts of the kind kernels hear whole segments"


@dataclass(frozen=True)
class ClosedRun:
    """What the first phase leaves: settings, weights by part, and what held-out clips told."""

    config: RunConfig
    weights: Mapping[str, Mapping[str, Tensor]]
    events: Thresholds
    record: Mapping[str, Any]
    rows: tuple[Any, ...]


def fit_closed_run(
    folder: RunFolder,
    config: RunConfig,
    dataset: Dataset,
    budget: str | float,
    *,
    progress: Progress = silent,
) -> RunConfig:
    """Fit in closed form and write checkpoint, settings and records; returns the settings."""
    began = time.monotonic()
    profile = folder.read_record(RunFile.PROFILE, Profile)
    job = ClosedJob(
        dataset,
        config.spectro,
        folder.file(RunFile.FEATURES),
        profile.fs_mode_hz,
        seed=config.train.seed,
    )
    run = build_closed_run(job, config, budget, progress=progress)
    folder.save_checkpoint("closed", run.weights, {"phase": "closed"}, which=("best", "last"))
    folder.write_record(RunFile.CONFIG, run.config)
    folder.write_record(RunFile.EVENTS, run.events)
    policy = folder.read_record(RunFile.POLICY, Policy)
    folder.write_record(RunFile.POLICY, with_selection(policy, run))
    minutes = {"minutes": round((time.monotonic() - began) / 60, 3)}
    folder.write_record(RunFile.CLOSED, {**run.record, **minutes})
    return run.config


def build_closed_run(
    job: ClosedJob, config: RunConfig, budget: str | float, *, progress: Progress = silent
) -> ClosedRun:
    """Return a fitted mixture as what a run folder holds of it."""
    fitted = fit_closed(job, progress=progress)
    settings = model_config(config.model, fitted)
    model = build_model(fitted, settings)
    promised = promise(fitted, model, progress=progress)
    router_of(model).fill(fitted.stacks, promised.promises, fitted.names)
    glance_ms = measure_glance_ms(model, job.sample_rate_hz)
    priced = choose_price(promised, budget, glance_ms)
    temperatures = tuple(1.0 / sum(stack.weights.values()) for stack in fitted.stacks)
    logits = answers_at(promised, promised.asked_at(priced.price), temperatures)[promised.clean]
    doubt = judge_doubt(promised, logits, job)
    routing = RoutingConfig(
        budget=budget,
        k_price=priced.price,
        costs_ms=promised.promises.costs_ms,
        glance_ms=round(glance_ms, 4),
        temperatures=temperatures,
        uncertain_below=doubt.threshold,
        reasons={"windows": _WHOLE, "k": priced.reason, "uncertain": doubt.reason},
    )
    progress("calibrate", 1, 1, "; ".join(routing.reasons.values()))
    return ClosedRun(
        config=config.model_copy(update={"model": settings, "routing": routing}),
        weights=split_weights(model),
        events=thresholds_of(promised, logits, job),
        record=describe(fitted, promised, priced, doubt),
        rows=fitted.rows,
    )


def model_config(model: ModelConfig, fitted: Fitted) -> ModelConfig:
    """Return the settings of the mixture that was fitted."""
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
    """Return the mixture with its stem and experts; its router promises nothing yet."""
    model = MoE(settings, fitted.job.spectro).eval()
    assert isinstance(model.stem, KernelStem)
    weight, bias = fitted.heads[STEM_NAME].sharp_head()
    model.stem.head.weight.copy_(weight.T)
    model.stem.head.bias.copy_(bias)
    for spec in fitted.specs:
        expert = fitted.heads[spec.name].as_expert(spec)
        model.experts[spec.name].load_state_dict(expert.state_dict())
    return model


def measure_glance_ms(model: MoE, sample_rate_hz: int) -> float:
    """Return the milliseconds of a processor for a segment that no expert answers, best of five."""
    spectro = model.spectro
    count = max(round(spectro.segment_s * sample_rate_hz), 1)
    noise = np.random.default_rng(0).standard_normal(count).astype(np.float32)
    segments = [Segment(noise, sample_rate_hz, 0)]
    frontend, taken = build_frontend(spectro), []
    with one_thread(), torch.inference_mode():
        for _ in range(_TRIALS + 1):
            began = time.thread_time()
            spec = frontend.compress(*measure_segments(segments, frontend))
            model.prepare(spec, RoutingConfig(), k=0)
            taken.append(time.thread_time() - began)
    return 1000.0 * min(taken[1:])


def judge_doubt(promised: Promised, logits: np.ndarray, job: ClosedJob) -> Doubt:
    """Return the threshold of doubt for calibrated held-out logits [n, C] of the clean rows."""
    if not job.task.exclusive:
        reason = "several labels: no single top probability"
        return Doubt(threshold=0.0, share=0.0, wrong_under=0.0, wrong_over=0.0, reason=reason)
    truth, units = promised.rows[promised.clean], promised.depths.units[promised.clean]
    right = rightness(logits, truth, job.task)
    return choose_doubt(top_probability(logits, job.task), right, units)


def thresholds_of(promised: Promised, logits: np.ndarray, job: ClosedJob) -> Thresholds:
    """Return what is an event, by held-out answers to the clean rows."""
    truth = promised.rows[promised.clean].astype(bool)
    return find_thresholds(
        to_probabilities(logits, job.task),
        truth,
        truth.sum(axis=0),
        classes=job.dataset.classes,
        exclusive=job.task.exclusive,
    )


def describe(fitted: Fitted, promised: Promised, priced: Priced, doubt: Doubt) -> dict[str, object]:
    """Return the record of the first phase."""
    return {
        "schema_version": 1,
        "sources": fitted.sources,
        "judged": fitted.judged,
        "clips": len(fitted.features.examples),
        "segments": len(fitted.targets.rows),
        "candidates": [row.model_dump() for row in fitted.rows],
        "dropped": dict(fitted.dropped),
        "weights": [stack.weights for stack in fitted.stacks],
        "first_most": promised.promises.first_most,
        "prices": [point.model_dump() for point in priced.points],
        "doubt": doubt.model_dump(),
    }


def with_selection(policy: Policy, run: ClosedRun) -> Policy:
    """Return the policy with the experts that were selected and the table of all candidates."""
    names = run.config.model.expert_names
    reasons = "; ".join(f"{row.name}: {row.reason}" for row in run.rows if row.name in names)
    chosen = {
        "experts": Choice(name="experts", value=list(names), reason=reasons, source="race"),
        "k_max": Choice(
            name="k_max", value=len(names), reason="any number of them may be asked", source="race"
        ),
    }
    choices = tuple(chosen.get(choice.name, choice) for choice in policy.choices)
    return policy.model_copy(
        update={
            "experts": names,
            "k_max": len(names),
            "masked_experts": (),
            "mask_reasons": {},
            "expert_priors": {},
            "choices": choices,
            "candidates": run.rows,
        }
    )
