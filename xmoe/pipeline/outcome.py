"""Fitted weights -> the routing that validation supports, figures on test, and pictures of both."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from matplotlib.figure import Figure
from torch import Tensor

from xmoe.annotate.thresholds import choose_thresholds
from xmoe.base.config import RunConfig
from xmoe.base.files import write_bytes
from xmoe.base.progress import Progress, silent
from xmoe.base.task import task_of
from xmoe.features.store import SpectrogramStore
from xmoe.frontend.registry import build_frontend
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
from xmoe.pipeline.evaluation import Evaluation, evaluate_store, mean_macs
from xmoe.policy.probe import baseline_probabilities
from xmoe.predict.predictor import Predictor
from xmoe.run.folder import RunFile, RunFolder
from xmoe.training.calibrate import calibrate
from xmoe.training.session import read_history

LEAST_GROUPS = 10


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
    stores: Mapping[str, SpectrogramStore],
    *,
    groups: Mapping[str, str],
    progress: Progress = silent,
) -> dict[str, Any]:
    """Measure a calibrated run: what is an event on validation, figures on test, what it costs.

    Everything is written; returns the figures. ``groups`` maps clip ids to what belongs together.
    """
    predictor = Predictor.load(folder.path)
    folder.write_record(RunFile.EVENTS, choose_thresholds(predictor, stores["val"]))
    evaluation = evaluate_store(
        predictor, stores["test"], groups=pick_groups(stores["test"], groups), progress=progress
    )
    history = read_history(folder)
    progress("baseline", 0, 1)
    extra = measure_baseline(predictor.config, stores, groups)
    progress("baseline", 1, 1, f"random-kernel ridge {extra['baseline_accuracy']:.1%}")
    macs = mean_macs(predictor, evaluation.usage)
    extra |= {
        "epochs": len(history),
        "train_minutes": sum(float(row["seconds"]) for row in history) / 60,
        "mmacs": macs,
    }
    metrics = write_evaluation(folder.path, predictor, evaluation, extra=extra)
    write_bytes(folder.file(RunFile.ARCHITECTURE), describe_architecture(predictor, macs).encode())
    if history:
        write_bytes(folder.file(RunFile.LEARNING_CURVES), to_png(draw_learning_curves(history)))
    return metrics


def pick_groups(store: SpectrogramStore, groups: Mapping[str, str]) -> list[str] | None:
    """Return each clip's group, or None where there are too few to resample (under ten)."""
    own = [groups.get(clip_id, clip_id) for clip_id in store.clip_ids]
    return own if len(set(own)) >= LEAST_GROUPS else None


def measure_baseline(
    config: RunConfig, stores: Mapping[str, SpectrogramStore], groups: Mapping[str, str]
) -> dict[str, Any]:
    """Return what a ridge on random kernels scores on test with the same front end."""
    frontend = build_frontend(config.spectro)

    def specs(store: SpectrogramStore) -> list[Tensor]:
        return [frontend.compress(store.whole(i).unsqueeze(0))[0] for i in range(len(store))]

    task = task_of(config.model.task)
    train, test = stores["train"], stores["test"]
    probabilities = baseline_probabilities(
        specs(train),
        train.targets,
        specs(test),
        task=task,
        num_classes=config.model.num_classes,
        seed=config.train.seed,
    )
    own = pick_groups(test, groups)
    scores = compute_metrics(probabilities, test.targets, task=task, groups=own)
    names = ("accuracy", "accuracy_ci", "macro_f1", "macro_f1_ci", "map", "map_ci")
    return {f"baseline_{name}": scores[name] for name in names if name in scores}


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
    """Return a table as Parquet."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    data: bytes = sink.getvalue().to_pybytes()
    return data
