"""History and figures on test -> learning curves, confusion, calibration and a table of classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from xmoe.pictures import draw_calibration, draw_confusion, draw_learning_curves
from xmoe.report.html import drawn, interval, join, paragraph, percent, table
from xmoe.report.records import RunRecords
from xmoe.run.folder import RunFile

MOST_CLASSES = 40
MOST_PAIRS = 10
FIGURES = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "macro_f1": "Macro F1",
    "map": "Mean average precision",
    "baseline_accuracy": "Accuracy of the random-kernel baseline",
    "majority_accuracy": "Accuracy of the commonest answer",
    "ece": "Calibration error",
}


def say_answer(metrics: dict[str, Any]) -> str:
    """The result of the run in one line: accuracy beside what it has to beat."""
    several = metrics.get("task") == "multi_label"
    what = "mean overlap of labels" if several else "accuracy"
    words = (
        f"{percent(metrics['accuracy'])} {what} on {metrics.get('num_clips', 'the')} test clips"
        f"{interval(metrics.get('accuracy_ci'))}"
    )
    if "baseline_accuracy" in metrics:
        words += f"; a random-kernel baseline reaches {percent(metrics['baseline_accuracy'])}"
        words += interval(metrics.get("baseline_accuracy_ci"))
    if "majority_accuracy" in metrics:
        words += f"; always the commonest answer reaches {percent(metrics['majority_accuracy'])}"
    return words + "."


def describe_figures(records: RunRecords) -> Markup:
    metrics = records.metrics
    rows = []
    for name, words in FIGURES.items():
        if metrics.get(name) is not None:
            bounds = metrics.get(f"{name}_ci")
            spread = f"{100 * bounds[0]:.1f} to {100 * bounds[1]:.1f}" if bounds else "–"
            rows.append((words, percent(metrics[name]), spread))
    return table("Figures on the test split", ("", "Value", "95 % interval"), rows)


def describe_learning(records: RunRecords) -> Markup:
    """Learning curves, or how a fit in closed form went."""
    record = records.closed_form
    if record is not None:
        beside = [describe_network(record, records.history)] if "network" in record else []
        return join(describe_fit(record), *beside)
    if not records.history:
        return paragraph("The run folder holds no history of the training.")
    return drawn(draw_learning_curves(records.history), "Learning curves")


def describe_fit(record: Mapping[str, Any]) -> Markup:
    first, doubt = record["first_most"], record["doubt"]["reason"]
    return join(
        paragraph(
            f"Fitted in closed form in {record['minutes']:.1f} minutes, on {record['clips']} clips "
            f"in {record['segments']} segments. Sources: {record['sources']}. Judges: "
            f"{record['judged']}. In the first round at most {first} experts are asked."
        ),
        paragraph(f"Doubt: {doubt}."),
    )


def describe_network(record: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> Markup:
    row = record["network"]
    became = "It became an expert" if row["taken"] else "It did not become an expert"
    words = (
        f"Then a network was trained by gradient, for {record['network_minutes']:.1f} minutes. "
        f"{became}: it takes {row['gain']:.4f} ± {row['gain_se']:.4f} nats off the log loss "
        f"({row['reason']})."
    )
    return join(paragraph(words), drawn(draw_learning_curves(history), "Learning curves"))


def describe_calibration(records: RunRecords) -> Markup:
    words = "Points on the dashed line: what the answer claimed is how often it was right."
    return drawn(draw_calibration(records.metrics), "Calibration curve", words)


def describe_confusion(records: RunRecords) -> Markup:
    metrics, classes = records.metrics, tuple(records.metrics["classes"])
    counts = np.asarray(metrics["confusion"], dtype=np.int64)
    kept = most_confused(counts)
    cut = len(kept) < len(classes)
    words = f"The {len(kept)} of {len(classes)} classes with the most errors." if cut else ""
    shown = counts[np.ix_(kept, kept)] if counts.shape[1:] == (len(classes),) else counts[kept]
    names = [classes[index] for index in kept]
    parts = [drawn(draw_confusion(shown.tolist(), names), "Confusion matrix", words)]
    if counts.ndim == 2 and (pairs := list_pairs(counts, classes)):
        columns = ("Truth", "Answer", "Clips")
        parts.append(table("What is most often taken for what", columns, pairs, texts=2))
    return join(*parts)


def most_confused(counts: npt.NDArray[np.int64]) -> list[int]:
    """The classes to draw, in their order: all, or those with the most errors."""
    if len(counts) <= MOST_CLASSES:
        return list(range(len(counts)))
    if counts.ndim == 3:
        errors = counts[:, 0, 1] + counts[:, 1, 0]
    else:
        errors = counts.sum(0) + counts.sum(1) - 2 * np.diag(counts)
    order = np.argsort(-errors, kind="stable")[:MOST_CLASSES]
    return sorted(int(index) for index in order)


def list_pairs(
    counts: npt.NDArray[np.int64], classes: tuple[str, ...]
) -> list[tuple[str, str, int]]:
    """(truth, answer, clips) of the most frequent mistakes."""
    wrong = counts - np.diag(np.diag(counts))
    pairs = [(int(wrong[i, j]), int(i), int(j)) for i, j in np.argwhere(wrong)]
    pairs.sort(key=lambda pair: (-pair[0], pair[1:]))
    return [(classes[i], classes[j], count) for count, i, j in pairs[:MOST_PAIRS]]


def describe_classes(records: RunRecords) -> Markup:
    """A row per class, the worst first; of many classes only those."""
    metrics, by_class = records.metrics, records.usage.get("by_class", {})
    classes = metrics["classes"]
    found = [(classes[int(row["class_id"])], row) for row in metrics["per_class"]]
    found.sort(key=lambda pair: (pair[1]["f1"] is None, pair[1]["f1"] or 0.0, pair[0]))
    rows = []
    for name, row in found[:MOST_CLASSES]:
        mean_k = by_class.get(name, {}).get("mean_k")
        shares = [percent(row.get(part)) for part in ("precision", "recall", "f1")]
        rows.append((name, row["support"], *shares, "–" if mean_k is None else f"{mean_k:.2f}"))
    columns = ("Class", "Test clips", "Precision", "Recall", "F1", "Mean K")
    more = len(found) - len(rows)
    return join(
        table("Classes on the test split, the worst first", columns, rows),
        paragraph(f"{more} classes with a better F1 are in {RunFile.METRICS}.", class_="quiet")
        if more
        else "",
    )
