"""The history of a training run -> loss and accuracy by epoch, training against validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from xmoe.pictures.style import BLUE, INK, ORANGE, QUIET, make_plain, new_figure

TRAIN_LOSS = ("train_mixture", "train_loss")


def draw_learning_curves(history: Sequence[Mapping[str, Any]]) -> Figure:
    """One record per epoch, with the kept epoch marked.

    Reads ``epoch``, ``val_loss``, ``val_accuracy``, ``train_accuracy`` and ``train_mixture`` (the
    mixture's own loss) or ``train_loss``; missing values are left out. The kept epoch is the last
    that says ``kept``, else the one with the lowest validation loss. Raises ValueError if there are
    no epochs.
    """
    if not history:
        raise ValueError("no epochs to draw")
    epochs = [int(record["epoch"]) for record in history]
    best = _best_epoch(history, epochs)
    figure = new_figure(9.0, 3.6, _say_history(history, best))
    left, right = figure.subplots(1, 2)
    train_loss = next((name for name in TRAIN_LOSS if name in history[-1]), TRAIN_LOSS[-1])
    _draw_pair(left, history, (train_loss, "val_loss"), best)
    left.set_ylabel("Loss (nats)", color=INK)
    left.set_ylim(0, left.get_ylim()[1] * 1.04)
    _draw_pair(right, history, ("train_accuracy", "val_accuracy"), best)
    right.set_ylabel("Accuracy", color=INK)
    right.set_ylim(0, 1.02)
    right.yaxis.set_major_formatter(PercentFormatter(1.0))
    left.legend(fontsize=8, frameon=False)
    return figure


def _best_epoch(history: Sequence[Mapping[str, Any]], epochs: list[int]) -> int | None:
    """The epoch that was kept, or None without validation."""
    kept = [epoch for epoch, record in zip(epochs, history, strict=True) if record.get("kept")]
    if kept:
        return kept[-1]
    losses = _column(history, "val_loss")
    return None if np.isnan(losses).all() else epochs[int(np.nanargmin(losses))]


def _column(history: Sequence[Mapping[str, Any]], name: str) -> np.ndarray[Any, Any]:
    values = [record.get(name) for record in history]
    return np.asarray([np.nan if value is None else float(value) for value in values])


def _draw_pair(
    axes: Axes, history: Sequence[Mapping[str, Any]], names: tuple[str, str], best: int | None
) -> None:
    epochs = _column(history, "epoch")
    mark = "o" if len(history) < 4 else None
    drawn = zip(
        names, ("training, augmented", "validation"), (ORANGE, BLUE), ("--", "-"), strict=True
    )
    for name, label, colour, dash in drawn:
        values = _column(history, name)
        there = ~np.isnan(values)
        if there.any():
            points = epochs[there], values[there]
            axes.plot(*points, dash, color=colour, label=label, marker=mark, lw=1.8)
    if best is not None:
        axes.axvline(best, color=QUIET, lw=1.0, ls=":", label="kept")
    axes.set_xlabel("Epoch", color=INK)
    axes.set_xlim(min(epochs[0], 1) - 0.5, epochs[-1] + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    make_plain(axes)


def _say_history(history: Sequence[Mapping[str, Any]], best: int | None) -> str:
    if best is None:
        return f"{len(history)} epochs, no validation"
    record = next(r for r in history if int(r["epoch"]) == best)
    accuracy = record.get("val_accuracy")
    scored = "" if accuracy is None else f", {accuracy:.1%} right on validation"
    return f"Kept: epoch {best} of {len(history)}, validation loss {record['val_loss']:.3f}{scored}"
