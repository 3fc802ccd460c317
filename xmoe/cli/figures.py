"""Metrics and answers as plain values -> the tables that people read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from xmoe.cli.output import make_table

if TYPE_CHECKING:
    from rich.table import Table

FIGURES = (
    ("accuracy", "accuracy"),
    ("balanced_accuracy", "balanced accuracy"),
    ("macro_f1", "macro F1"),
    ("map", "mAP"),
    ("ece", "calibration error (ECE)"),
    ("nll", "negative log-likelihood"),
)

EXPLAINED = {
    "label": "why this label",
    "experts": "why these experts",
    "k": "why this K and these windows",
}


def metrics_table(metrics: Mapping[str, Any], title: str) -> Table:
    """Figures with their 95 % intervals, on how many clips, and what trivial baselines score."""
    if "num_clips" in metrics:
        title += f", {metrics['num_clips']} clips"
    rows: list[Sequence[object]] = [
        (words, _number(metrics[name]), _interval(metrics.get(f"{name}_ci")))
        for name, words in FIGURES
        if metrics.get(name) is not None
    ]
    if "majority_accuracy" in metrics:
        rows.append(("majority baseline", _number(metrics["majority_accuracy"]), ""))
    baseline = metrics.get("baseline_accuracy")
    if baseline is not None:
        interval = _interval(metrics.get("baseline_accuracy_ci"))
        rows.append(("random-kernel baseline", _number(baseline), interval))
    if "mean_k" in metrics:
        rows.append(("mean K (experts asked)", f"{metrics['mean_k']:.2f}", ""))
    return make_table(title, ("figure", "value", "95 % interval"), rows)


def mixture_table(metrics: Mapping[str, Any]) -> Table | None:
    """What the stem, the best expert, the mixture and all experts score, and their cost.

    None where the costs of experts were not measured. The best expert is the best on test.
    """
    fixed, ms = metrics.get("accuracy_at_fixed_k"), metrics.get("ms_at_fixed_k")
    alone = metrics.get("alone")
    if not fixed or not ms or not alone:
        return None
    every = str(max(map(int, fixed)))
    best = max(alone, key=lambda name: (alone[name], name))
    cost = metrics.get("ms_alone", {}).get(best)
    rows = [
        ("stem alone", _number(fixed["0"]), "0", _ms(ms["0"])),
        (f"best expert alone: {best}", _number(alone[best]), "1", _ms(cost)),
        (
            "mixture at its budget",
            _number(metrics["accuracy"]),
            f"{metrics['mean_k']:.2f}",
            _ms(metrics["mean_ms"]),
        ),
        ("all experts", _number(fixed[every]), every, _ms(ms[every])),
    ]
    return make_table("accuracy and cost", ("answer by", "accuracy", "K", "ms"), rows)


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def answers_table(rows: Iterable[Mapping[str, Any]]) -> Table:
    """One line per recording: the answer, how sure, how many experts and which."""
    cells, answer = [], "answer"
    for row in rows:
        if "error" in row:
            cells.append((row["file"], "-", "-", "-", row["what"]))
            continue
        if row["uncertain"]:
            answer = "answer (? uncertain)"
        experts = ", ".join(f"{use['name']} {use['weight']:.2f}" for use in row["experts"])
        label = ";".join(row["labels"]) or row["label"]
        doubt = " ?" if row["uncertain"] else ""
        probability = f"{row['probability']:.3f}"
        cells.append((row["file"], label + doubt, probability, f"{row['k']:.1f}", experts))
    return make_table("", ("file", answer, "p", "K", "experts"), cells)


def explanations_tables(survey: Mapping[str, Any]) -> list[Table]:
    """A table for each question: how faithful each method is, beside random maps."""
    columns = ("method", "deletion", "below random", "insertion", "above random", "stable", "ms")
    tables = []
    for question, found in survey["questions"].items():
        rows = [
            (
                name,
                _number(row["deletion"]),
                _signed(row, "deletion_gain"),
                _number(row["insertion"]),
                _signed(row, "insertion_gain"),
                f"{row['stability']:.2f}" if "stability" in row else "",
                f"{row['ms']:.1f}" if "ms" in row else "",
            )
            for name, row in found["methods"].items()
        ]
        title = f"{EXPLAINED[question]}: {found['watched']} ({survey['num_clips']} clips)"
        tables.append(make_table(title, columns, rows))
    return tables


def robustness_table(record: Mapping[str, Any]) -> Table:
    """A line for each harm: what is right at every level, from mild to harsh."""
    clean = record["clean"]["accuracy"]
    rows = []
    for harm in record["harms"]:
        levels = ", ".join(f"{point['level']:g}" for point in harm["points"])
        scores = ", ".join(f"{point['accuracy']:.3f}" for point in harm["points"])
        words = f"{harm['sense']} {levels} {harm['unit']}".strip()
        rows.append((harm["title"], words, scores or harm["absent"]))
    title = f"{record['num_clips']} clips, {clean:.3f} right as they are"
    return make_table(title, ("harm", "levels", "accuracy"), rows)


def _signed(row: Mapping[str, Any], name: str) -> str:
    if name not in row:
        return ""
    pair = row[f"{name}_ci"]
    interval = f" ({pair[0]:+.3f} to {pair[1]:+.3f})" if pair else ""
    return f"{row[name]:+.3f}{interval}"


def _number(value: float) -> str:
    return f"{value:.4f}"


def _interval(pair: Sequence[float] | None) -> str:
    return f"{pair[0]:.4f} - {pair[1]:.4f}" if pair else ""
