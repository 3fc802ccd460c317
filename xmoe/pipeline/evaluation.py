"""A predictor + a store of spectrograms -> metrics, expert usage and one trace per clip.

Nothing is decided here: the fitted run is measured as it would serve, and beside it the same
weights with K fixed at 0, 1, ..., which shows what choosing K is worth. Each clip is answered by
itself, so blocks of clips that several machines answered are judged together.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from xmoe.audio.dataset import Dataset, Example, load_dataset
from xmoe.audio.quarantine import Quarantined
from xmoe.backbones.macs import count_macs
from xmoe.backbones.windows import place_windows
from xmoe.base.config import ExpertSpec, RunConfig
from xmoe.base.errors import DatasetError
from xmoe.base.progress import Progress, silent
from xmoe.experts.kernels import macs_per_s
from xmoe.features.segments import eval_segments
from xmoe.features.store import SpectrogramStore, build_store
from xmoe.frontend.threads import one_thread
from xmoe.metrics import compute_metrics
from xmoe.mixture.network import NetworkExpert
from xmoe.predict.answer import SegmentAnswers
from xmoe.predict.predictor import Predictor


@dataclass(frozen=True)
class Evaluation:
    """What answers to one split are worth.

    ``metrics`` as from ``compute_metrics`` plus mean K and fixed-K figures; ``usage`` is what
    ``expert_usage.json`` holds; ``traces`` has one row per clip.
    """

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


@dataclass(frozen=True)
class Answered(_Clips):
    """What was answered to each clip; ``fixed`` [n, K + 1, C] with K fixed, or K + 1 of none."""

    fixed: npt.NDArray[np.float64]
    targets: npt.NDArray[np.generic]
    clip_ids: tuple[str, ...]

    @classmethod
    def join(cls, blocks: Sequence[Answered]) -> Answered:
        columns = {
            name: np.concatenate([getattr(block, name) for block in blocks])
            for name in cls.__dataclass_fields__
            if name != "clip_ids"
        }
        return cls(**columns, clip_ids=tuple(name for block in blocks for name in block.clip_ids))


def evaluate_store(
    predictor: Predictor,
    store: SpectrogramStore,
    *,
    groups: Sequence[str] | None = None,
    progress: Progress = silent,
    fixed_k: bool = True,
) -> Evaluation:
    """Evaluate every clip of a store.

    ``groups`` [n] names what belongs together (speaker, recording): intervals resample groups.
    Raises ValueError for an empty store.
    """
    answered = answer_store(predictor, store, fixed_k=fixed_k, progress=progress)
    return judge(predictor, answered, groups=groups)


class Answerer(Protocol):
    """Whatever answers the clips of a data set: this process, or a job on Ray."""

    def __call__(
        self,
        predictor: Predictor,
        dataset: Dataset,
        examples: Sequence[Example],
        *,
        progress: Progress,
    ) -> tuple[Answered | None, list[Quarantined]]:
        """Answers, None where no clip can be read, and the clips that cannot."""
        ...


def answer_here(
    predictor: Predictor,
    dataset: Dataset,
    examples: Sequence[Example],
    *,
    progress: Progress = silent,
) -> tuple[Answered | None, list[Quarantined]]:
    with temporary_store(predictor, dataset, examples, progress=progress) as (store, bad):
        return answer_store(predictor, store, progress=progress) if len(store) else None, bad


@contextmanager
def temporary_store(
    predictor: Predictor,
    dataset: Dataset,
    examples: Sequence[Example],
    *,
    progress: Progress = silent,
) -> Iterator[tuple[SpectrogramStore, list[Quarantined]]]:
    """Give the spectrograms of clips by segment, and the clips that cannot be read."""
    with tempfile.TemporaryDirectory(prefix="xmoe-") as scratch:
        yield build_store(
            Path(scratch) / (examples[0].split if examples else "none"),
            dataset,
            examples,
            predictor.frontend,
            by_segment=True,
            with_sound=predictor.config.model.hears_sound,
            progress=progress,
        )


def answer_store(
    predictor: Predictor,
    store: SpectrogramStore,
    *,
    fixed_k: bool = True,
    progress: Progress = silent,
) -> Answered:
    """Answers to every clip of a store; ValueError for an empty one."""
    if len(store) == 0:
        raise ValueError("no clips to evaluate")
    clips = _answer_clips(predictor, store, None, progress)
    depths = range(predictor.config.model.k_max + 1 if fixed_k else 0)
    fixed = [_answer_clips(predictor, store, k, silent).probabilities for k in depths]
    return Answered(
        **vars(clips),
        fixed=np.stack(fixed, 1) if fixed else clips.probabilities[:, None][:, :0],
        targets=store.targets,
        clip_ids=store.clip_ids,
    )


def judge(
    predictor: Predictor, clips: Answered, *, groups: Sequence[str] | None = None
) -> Evaluation:
    """Evaluation of answers; ``groups`` as for ``evaluate_store``."""
    config, task = predictor.config, predictor.task
    metrics = compute_metrics(clips.probabilities, clips.targets, task=task, groups=groups)
    truth = task.rows(clips.targets, len(config.classes))
    metrics["mean_k"] = float(clips.k.mean())
    metrics["mean_saliency_share"] = float(clips.share.mean())
    if clips.fixed.shape[1]:
        metrics["accuracy_at_fixed_k"] = {
            str(k): float(compute_metrics(p, clips.targets, task=task, num_bootstrap=0)["accuracy"])
            for k, p in enumerate(clips.fixed.swapaxes(0, 1))
        }
    return Evaluation(
        metrics=metrics,
        usage=measure_usage(clips, truth, config.model.expert_names, config.classes),
        traces=_trace_table(clips, truth, predictor),
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


def measure_usage(
    clips: _Clips,
    truth: npt.NDArray[np.float64],
    experts: tuple[str, ...],
    classes: tuple[str, ...],
) -> dict[str, Any]:
    """How often each expert was asked, the histogram of K, load balance, and all by class.

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


def _trace_table(clips: Answered, truth: npt.NDArray[np.float64], predictor: Predictor) -> pa.Table:
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
            "clip_id": list(clips.clip_ids),
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
    """Multiply-accumulates of an expert on sound for a segment, None if unknown."""
    segment_s = config.spectro.segment_s
    if spec.kind == "kernels":
        return macs_per_s(spec) * segment_s
    if spec.kind != "backbone":
        return None
    macs = count_macs(spec.card, Path(spec.folder))
    windows = spec.windows or len(place_windows(segment_s, spec.card))
    return None if macs is None else float(macs * windows)


def mean_macs(predictor: Predictor, usage: dict[str, Any] | None = None) -> dict[str, float]:
    """Millions of multiply-accumulates per segment: stem, experts, and by ``usage`` an answer."""
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
    if usage is None:
        return result
    rates = usage["selection_rate"]
    result["mean_answer"] = result["stem"] + sum(
        rates[name] * result.get(name, 0.0) for name in config.model.expert_names
    )
    return result


def load_own(
    config: RunConfig,
    dataset_dir: str | Path,
    metadata_csv: str | Path | None,
    split: str,
    test_fold: int | None,
    *,
    progress: Progress = silent,
) -> Dataset:
    """Read a data set as the training of a run would, with the run's classes in their order.

    DatasetError where the split has labels that the run does not know.
    """
    dataset = load_dataset(
        dataset_dir,
        metadata_csv,
        test_fold=test_fold,
        task=config.model.task,
        seed=config.train.seed,
        progress=progress,
    )
    found = {label for example in dataset.split(split) for label in example.labels}
    if strange := sorted(found - set(config.classes)):
        what = f"the classifier does not know the labels {', '.join(strange)}"
        mend = f"use its labels ({', '.join(config.classes)}), or train on this data set"
        raise DatasetError(what, where=str(dataset.root), mend=mend)
    return replace(dataset, classes=config.classes)
