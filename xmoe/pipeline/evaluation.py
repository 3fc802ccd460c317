"""A predictor + a store of spectrograms -> metrics, expert usage and one trace per clip.

Nothing here decides anything: what was fitted is measured as it would serve, and beside it what the
same weights give with K fixed at 0, 1, ... so that the worth of choosing K can be read off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from xmoe.backbones.macs import count_macs
from xmoe.backbones.windows import place_windows
from xmoe.base.config import ExpertSpec, RunConfig
from xmoe.base.progress import Progress, silent
from xmoe.experts.kernels import macs_per_s
from xmoe.features.segments import eval_segments
from xmoe.features.store import SpectrogramStore
from xmoe.frontend.threads import one_thread
from xmoe.metrics import compute_metrics
from xmoe.mixture.network import NetworkExpert
from xmoe.predict.answer import SegmentAnswers
from xmoe.predict.predictor import Predictor


@dataclass(frozen=True)
class Evaluation:
    """Answers of one split: ``probabilities`` [n, C], ``targets`` [n] or [n, C], K, weights [n, E].

    ``metrics`` as from ``compute_metrics`` plus mean K and fixed-K figures; ``usage`` is what
    ``expert_usage.json`` holds; ``traces`` has one row per clip.
    """

    probabilities: npt.NDArray[np.float64]
    targets: npt.NDArray[np.generic]
    k: npt.NDArray[np.float64]
    weights: npt.NDArray[np.float64]
    metrics: dict[str, Any]
    usage: dict[str, Any]
    traces: pa.Table


@dataclass(frozen=True)
class _Clips:
    probabilities: npt.NDArray[np.float64]
    k: npt.NDArray[np.float64]
    weights: npt.NDArray[np.float64]
    asked: npt.NDArray[np.float64]
    share: npt.NDArray[np.float64]


def evaluate_store(
    predictor: Predictor,
    store: SpectrogramStore,
    *,
    groups: Sequence[str] | None = None,
    progress: Progress = silent,
    fixed_k: bool = True,
) -> Evaluation:
    """Return the evaluation of every clip of a store.

    ``groups`` [n] names what belongs together (speaker, recording): intervals resample groups.
    Raises ValueError for an empty store.
    """
    if len(store) == 0:
        raise ValueError("no clips to evaluate")
    config = predictor.config
    clips = _answer_clips(predictor, store, None, progress)
    task = predictor.task
    metrics = compute_metrics(clips.probabilities, store.targets, task=task, groups=groups)
    truth = task.rows(store.targets, len(config.classes))
    metrics["mean_k"] = float(clips.k.mean())
    metrics["mean_saliency_share"] = float(clips.share.mean())
    if fixed_k:
        metrics["accuracy_at_fixed_k"] = {
            str(k): _fixed_accuracy(predictor, store, k) for k in range(config.model.k_max + 1)
        }
    return Evaluation(
        probabilities=clips.probabilities,
        targets=store.targets,
        k=clips.k,
        weights=clips.weights,
        metrics=metrics,
        usage=measure_usage(clips, truth, config.model.expert_names, config.classes),
        traces=_trace_table(clips, store, truth, predictor),
    )


def _answer_clips(
    predictor: Predictor, store: SpectrogramStore, k: int | None, progress: Progress
) -> _Clips:
    rows: list[tuple[Any, ...]] = []
    with one_thread():
        for index in range(len(store)):
            segments = eval_segments(store, predictor.frontend, [index])
            answers = predictor.answer_segments(segments.spec, segments.sound, k=k)
            rows.append(_clip_row(predictor, answers))
            progress("evaluate", index + 1, len(store))
    columns = [np.stack(column) for column in zip(*rows, strict=True)]
    return _Clips(*columns)


def _clip_row(predictor: Predictor, answers: SegmentAnswers) -> tuple[Any, ...]:
    weights = answers.weights.mean(0).double().numpy()
    asked = (answers.weights > 0).double().mean(0).numpy()
    k = np.asarray(float(answers.k.float().mean()))
    share = np.asarray(float(answers.saliency_share.mean()))
    return predictor.probabilities(answers.logits), k, weights, asked, share


def _fixed_accuracy(predictor: Predictor, store: SpectrogramStore, k: int) -> float:
    clips = _answer_clips(predictor, store, k, silent)
    scores = compute_metrics(
        clips.probabilities, store.targets, task=predictor.task, num_bootstrap=0
    )
    return float(scores["accuracy"])


def measure_usage(
    clips: _Clips,
    truth: npt.NDArray[np.float64],
    experts: tuple[str, ...],
    classes: tuple[str, ...],
) -> dict[str, Any]:
    """Return how often each expert was asked, the histogram of K, load balance, and all by class.

    ``load_balance`` is the entropy of the experts' load over its maximum: 1 is even, 0 is one
    expert alone.
    """
    rate = clips.asked.mean(0)
    load = rate / rate.sum() if rate.sum() > 0 else rate
    entropy = -float((load[load > 0] * np.log(load[load > 0])).sum())
    rounded = np.rint(clips.k).astype(int)
    by_class = {}
    for index, name in enumerate(classes):
        member = truth[:, index] > 0
        if member.any():
            by_class[name] = {
                "mean_k": float(clips.k[member].mean()),
                "selection_rate": dict(
                    zip(experts, clips.asked[member].mean(0).tolist(), strict=True)
                ),
            }
    return {
        "selection_rate": dict(zip(experts, rate.tolist(), strict=True)),
        "mean_weight": dict(zip(experts, clips.weights.mean(0).tolist(), strict=True)),
        "k_histogram": {str(k): int((rounded == k).sum()) for k in sorted(set(rounded.tolist()))},
        "mean_k": float(clips.k.mean()),
        "load_balance": entropy / float(np.log(len(experts))) if len(experts) > 1 else 1.0,
        "by_class": by_class,
    }


def _trace_table(
    clips: _Clips, store: SpectrogramStore, truth: npt.NDArray[np.float64], predictor: Predictor
) -> pa.Table:
    config = predictor.config
    top = clips.probabilities.argmax(1)
    labels = [[config.classes[i] for i in np.nonzero(row)[0]] for row in truth]
    experts = [
        [
            {"name": n, "weight": float(w)}
            for n, w in zip(config.model.expert_names, row, strict=True)
            if w
        ]
        for row in clips.weights
    ]
    return pa.table(
        {
            "clip_id": list(store.clip_ids),
            "labels": pa.array(labels, pa.list_(pa.string())),
            "answer": [config.classes[i] for i in top],
            "probability": clips.probabilities.max(1),
            "entropy": [predictor.task.entropy(p) for p in clips.probabilities],
            "uncertain": clips.probabilities.max(1) < config.routing.uncertain_below,
            "k": clips.k,
            "experts": experts,
            "saliency_share_sent": clips.share,
            "probabilities": clips.probabilities.tolist(),
        }
    )


def hearing_macs(spec: ExpertSpec, config: RunConfig) -> float | None:
    """Return the multiply-accumulates of a segment to an expert that hears it, None if unknown."""
    segment_s = config.spectro.segment_s
    if spec.kind == "kernels":
        return macs_per_s(spec) * segment_s
    if spec.kind != "backbone":
        return None
    macs = count_macs(spec.card, Path(spec.folder))
    windows = spec.windows or len(place_windows(segment_s, spec.card))
    return None if macs is None else float(macs * windows)


def mean_macs(predictor: Predictor, usage: dict[str, Any]) -> dict[str, float]:
    """Return millions of multiply-accumulates per segment: stem, experts, and a mean answer."""
    from torch.utils.flop_counter import FlopCounterMode

    config = predictor.config
    spec = torch.zeros(1, config.spectro.num_bins, config.spectro.num_frames)

    def count(call: Any, *args: Any) -> float:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            call(*args)
        return float(counter.get_total_flops()) / 2e6

    model = predictor.model
    result = {"stem": count(model.stem, spec)}
    if config.model.hears_sound:
        counted = {one.name: hearing_macs(one, config) for one in config.model.experts}
        result |= {name: macs / 1e6 for name, macs in counted.items() if macs is not None}
        for one in config.model.experts:
            if one.kind == "network":
                expert = model.experts[one.name]
                assert isinstance(expert, NetworkExpert)
                own = expert.frontend.macs(one.spectro.num_frames) / 1e6
                result[one.name] = own + count(expert.read, spec)
    else:
        plan, inputs = model.prepare(spec, config.routing, k=len(config.model.experts))
        callers = model.callers()
        for request in model.requests(plan, inputs):
            result[request.name] = count(callers[request.name], request)
    rates = usage["selection_rate"]
    result["mean_answer"] = result["stem"] + sum(
        rates[name] * result.get(name, 0.0) for name in config.model.expert_names
    )
    return result
