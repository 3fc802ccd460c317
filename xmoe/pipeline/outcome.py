"""Fitted weights -> the routing that validation supports, figures on test, and pictures of both."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from matplotlib.figure import Figure

from xmoe.annotate.thresholds import choose_thresholds
from xmoe.audio.dataset import Dataset
from xmoe.base.config import RunConfig
from xmoe.base.files import read_json, write_bytes
from xmoe.base.progress import Progress, silent
from xmoe.base.task import task_of
from xmoe.features.store import SpectrogramStore
from xmoe.metrics import compute_metrics
from xmoe.pictures import (
    draw_calibration,
    draw_confusion,
    draw_expert_usage,
    draw_k_histogram,
    draw_learning_curves,
    to_png,
)
from xmoe.pipeline.architecture import describe_architecture
from xmoe.pipeline.depths import DepthJudge, ask_everyone
from xmoe.pipeline.evaluation import Answered, Evaluation, evaluate_store, mean_macs
from xmoe.policy.families import list_families
from xmoe.predict.golden import write_golden
from xmoe.predict.predictor import Predictor
from xmoe.run.folder import RunFile, RunFolder
from xmoe.training.calibrate import calibrate
from xmoe.training.heads import Targets, fit_either
from xmoe.training.hold_out import plan_hold_out
from xmoe.training.kernel_features import Source, measure_features
from xmoe.training.promises import read_table
from xmoe.training.session import read_history

LEAST_GROUPS = 10  # fewer are too few to resample


def calibrate_run(
    folder: RunFolder, val: SpectrogramStore, budget: str | float, *, progress: Progress = silent
) -> RunConfig:
    """Write the routing that validation clips support for the best weights into the settings."""
    predictor = Predictor.load(folder.path)
    progress("calibrate", 0, 1)
    routing = calibrate(predictor.model, predictor.frontend, predictor.config, val, budget)
    config = predictor.config.model_copy(update={"routing": routing})
    folder.write_record(RunFile.CONFIG, config)
    progress("calibrate", 1, 1, "; ".join(routing.reasons.values()))
    return config


def evaluate_run(
    folder: RunFolder,
    dataset: Dataset,
    stores: Mapping[str, SpectrogramStore],
    *,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Measure a calibrated run: event thresholds on validation, figures on test, and costs.

    Everything is written; returns the figures.
    """
    predictor, test = Predictor.load(folder.path), stores["test"]
    folder.write_record(RunFile.EVENTS, choose_thresholds(predictor, stores["val"]))
    write_golden(folder)
    own = pick_groups(test, dataset.groups)
    evaluation = evaluate_store(predictor, test, groups=own, progress=progress)
    history = read_history(folder)
    progress("baseline", 0, 1)
    extra = measure_baseline(folder, predictor.config, dataset, test)
    progress("baseline", 1, 1, f"random-kernel ridge {extra['baseline_accuracy']:.1%}")
    macs = mean_macs(predictor, evaluation.usage)
    extra |= {
        "epochs": len(history),
        "train_minutes": sum(float(row["seconds"]) for row in history) / 60,
        "mmacs": macs,
        "mixture": folder.fingerprint(),
    }
    metrics = write_evaluation(folder.path, predictor, evaluation, extra=extra)
    write_bytes(folder.file(RunFile.ARCHITECTURE), describe_architecture(predictor, macs).encode())
    if history:
        write_bytes(folder.file(RunFile.LEARNING_CURVES), to_png(draw_learning_curves(history)))
    return metrics


def evaluate_closed_run(
    folder: RunFolder, dataset: Dataset, test: SpectrogramStore, *, progress: Progress = silent
) -> dict[str, Any]:
    """Measure a run that was fitted in closed form on the test split; everything is written.

    Returns the figures: of the run at its budget, of every other number of experts, of each expert
    alone, of dead experts, and the curve of accuracy against milliseconds.
    """
    predictor = Predictor.load(folder.path)
    own = pick_groups(test, dataset.groups)
    evaluation = evaluate_store(predictor, test, groups=own, progress=progress, fixed_k=False)
    answers = ask_everyone(predictor, test, progress=progress)
    model = predictor.config.model
    held = read_table(folder.mixture_file(RunFile.HELD_OUT), model.expert_names, predictor.task)
    extra = DepthJudge(predictor, answers, held).describe()
    extra |= measure_baseline(folder, predictor.config, dataset, test)
    progress("baseline", 1, 1, f"random-kernel ridge {extra['baseline_accuracy']:.1%}")
    rates, routing = evaluation.usage["selection_rate"], predictor.config.routing
    asked = [rates[name] for name in model.expert_names]
    closed = read_json(folder.file(RunFile.CLOSED))
    extra |= {
        "mean_ms": routing.glance_ms + float(np.dot(asked, routing.costs_ms)),
        "mmacs": mean_macs(predictor, evaluation.usage),
        "epochs": len(read_history(RunFolder(folder.file(RunFile.BY_GRADIENT)))),
        "train_minutes": closed["minutes"] + closed.get("network_minutes", 0.0),
        "mixture": folder.fingerprint(),
    }
    metrics = write_evaluation(folder.path, predictor, evaluation, extra=extra)
    page = describe_architecture(predictor, extra["mmacs"])
    write_bytes(folder.file(RunFile.ARCHITECTURE), page.encode())
    return metrics


def renew_architecture(folder: RunFolder) -> None:
    """Write the page about a run whose experts or routing have changed since it was evaluated."""
    predictor = Predictor.load(folder.path)
    page = describe_architecture(predictor, mean_macs(predictor))
    write_bytes(folder.file(RunFile.ARCHITECTURE), page.encode())


def measure_baseline(
    folder: RunFolder, config: RunConfig, dataset: Dataset, test: SpectrogramStore
) -> dict[str, Any]:
    """Score on test of a ridge on random kernels with the run's own front end."""
    base = list_families(config.spectro)[0][0]
    source = Source(dataset, config.spectro.segment_s, folder.file(RunFile.FEATURES))
    known = [*dataset.split("train"), *dataset.split("val")]
    task, classes = task_of(config.model.task), config.model.num_classes
    fitted = measure_features(source, known, [base])
    fresh = measure_features(source, dataset.split("test"), [base])
    rows = task.rows(dataset.targets(fitted.examples), classes)[fitted.owners]
    groups = plan_hold_out(fitted.examples).groups[fitted.owners]
    everyone = np.ones(len(rows), dtype=bool)
    shares = 1.0 / fitted.counts[fitted.owners]
    targets = Targets(rows, groups, everyone, task, shares=shares)
    head = fit_either(lambda: fitted.blocks(base), targets)
    logits, owners = head.answer(fresh.table(base)), fresh.owners
    p = [task.pool_probabilities(logits[owners == clip]) for clip in range(len(fresh.counts))]
    truth = dataset.targets(fresh.examples)
    scores = compute_metrics(
        np.stack(p), truth, task=task, groups=pick_groups(test, dataset.groups)
    )
    names = ("accuracy", "accuracy_ci", "macro_f1", "macro_f1_ci", "map", "map_ci")
    return {f"baseline_{name}": scores[name] for name in names if name in scores}


def pick_groups(store: SpectrogramStore | Answered, groups: Mapping[str, str]) -> list[str] | None:
    """Each clip's group, or None where there are too few to resample (under ten)."""
    own = [groups.get(clip_id, clip_id) for clip_id in store.clip_ids]
    return own if len(set(own)) >= LEAST_GROUPS else None


def write_evaluation(
    out: Path,
    predictor: Predictor,
    evaluation: Evaluation,
    *,
    extra: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write figures, expert usage, traces and their pictures; returns the figures."""
    metrics = {**evaluation.metrics, **(extra or {}), "classes": predictor.config.classes}
    folder = RunFolder(out)
    folder.write_record(RunFile.USAGE, evaluation.usage)
    write_bytes(folder.file(RunFile.TRACES), table_bytes(evaluation.traces))
    pictures: dict[RunFile, Callable[[], Figure]] = {
        RunFile.CONFUSION: lambda: draw_confusion(metrics["confusion"], predictor.config.classes),
        RunFile.CALIBRATION: lambda: draw_calibration(metrics),
        RunFile.USAGE_PICTURE: lambda: draw_expert_usage(evaluation.usage),
        RunFile.K_HISTOGRAM: lambda: draw_k_histogram(evaluation.usage),
    }
    for name, draw in pictures.items():
        write_bytes(folder.file(name), to_png(draw()))
    folder.write_record(RunFile.METRICS, metrics)
    return metrics


def table_bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    data: bytes = sink.getvalue().to_pybytes()
    return data
