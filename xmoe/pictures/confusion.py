"""Counts of truth against answer -> which classes are mistaken for which.

Colour is the share of a true class; the number in a cell is the count. For several labels there is
no such matrix, but a bar per label of found, missed and falsely claimed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from xmoe.pictures.style import (
    BLUE,
    HEAT,
    INK,
    ORANGE,
    QUIET,
    make_plain,
    new_figure,
    shorten,
    write_cells,
)

Counts = npt.NDArray[np.int64]
MOST_NUMBERED = 36


def draw_confusion(confusion: Sequence[Any], classes: Sequence[str]) -> Figure:
    """Counts [C, C], truth by row, or [C, 2, 2] for several labels.

    Raises ValueError if counts and ``classes`` disagree.
    """
    counts = np.asarray(confusion, dtype=np.int64)
    num_classes = len(classes)
    if counts.shape == (num_classes, 2, 2):
        return _draw_labels(counts, classes)
    if counts.shape != (num_classes, num_classes):
        raise ValueError(f"counts {counts.shape} do not fit {num_classes} classes")
    side = float(np.clip(2.4 + 0.27 * num_classes, 4.2, 16.0))
    names = [shorten(name) for name in classes]
    room = 0.045 * max(map(len, names))
    figure = new_figure(side + room + 1.2, side + 0.5, _say_confusion(counts, classes))
    axes = figure.add_subplot()
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    image = axes.imshow(share, cmap=HEAT, vmin=0.0, vmax=1.0)
    axes.set_yticks(range(num_classes), names)
    long = num_classes > 6 or max(map(len, names)) > 6
    axes.set_xticks(range(num_classes), names, rotation=90 if long else 0)
    axes.set_xlabel("Answer", color=INK)
    axes.set_ylabel("Truth", color=INK)
    axes.tick_params(labelsize=8, colors=INK, length=0)
    if num_classes <= MOST_NUMBERED:
        texts = {(row, column): str(counts[row, column]) for row, column in np.argwhere(counts)}
        write_cells(axes, share, texts, 8 if num_classes <= 14 else 6)
    bar = figure.colorbar(image, ax=axes, fraction=0.04, pad=0.02)
    bar.ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    bar.set_label("Share of the true class", color=INK)
    bar.ax.tick_params(labelsize=8, colors=INK)
    return figure


def _say_confusion(counts: Counts, classes: Sequence[str]) -> str:
    total, right = int(counts.sum()), int(np.trace(counts))
    said = f"{right} of {total} right ({right / max(total, 1):.1%})"
    wrong = counts - np.diag(np.diag(counts))
    if not wrong.any():
        return f"{said}; no class taken for another"
    truth, answer = divmod(int(wrong.argmax()), len(classes))
    most = int(wrong.max())
    times = "once" if most == 1 else f"{most} times"
    names = f"{shorten(classes[truth])} taken for {shorten(classes[answer])}"
    return f"{said}\nmost often: {names}, {times}"


def _draw_labels(counts: Counts, classes: Sequence[str]) -> Figure:
    false, missed, found = counts[:, 0, 1], counts[:, 1, 0], counts[:, 1, 1]
    share = found.sum() / max((found + missed).sum(), 1)
    title = f"{share:.1%} of the true labels found, {false.sum()} claimed falsely"
    figure = new_figure(7.2, float(np.clip(1.6 + 0.26 * len(classes), 2.8, 16.0)), title)
    axes = figure.add_subplot()
    places = np.arange(len(classes))[::-1]
    axes.barh(places, found, color=BLUE, label="found")
    axes.barh(places, missed, left=found, color=QUIET, label="missed")
    axes.barh(places, -false, color=ORANGE, label="claimed falsely")
    axes.axvline(0, color=INK, lw=0.8)
    axes.set_yticks(places, [shorten(name) for name in classes])
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(lambda value, _: f"{abs(value):.0f}")
    axes.set_xlabel("Recordings", color=INK)
    axes.legend(fontsize=8, frameon=False, ncols=3, loc="lower left", bbox_to_anchor=(0, 1))
    make_plain(axes, grid="x")
    return figure
