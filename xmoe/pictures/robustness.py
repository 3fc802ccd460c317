"""``robustness.json`` -> accuracy under each harm, from mild to harsh, beside the clean score."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, PercentFormatter

from xmoe.base.units import format_hz
from xmoe.pictures.style import BLUE, INK, QUIET, make_plain, new_figure

COLUMNS = 3


def draw_robustness(record: Mapping[str, Any]) -> Figure:
    """One panel per harm; bars are 95 % intervals, the dashed line is the clean score."""
    harms = [harm for harm in record["harms"] if harm["points"]]
    rows = max(1, math.ceil(len(harms) / COLUMNS))
    figure = new_figure(3.3 * COLUMNS, 2.45 * rows + 0.5, say_robustness(record))
    grid = figure.subplots(rows, COLUMNS, sharey=True, squeeze=False)
    for axes, harm in zip(grid.flat, harms, strict=False):
        _draw_harm(axes, harm, record["clean"]["accuracy"])
    for axes in grid.flat[len(harms) :]:
        axes.set_axis_off()
    for row in grid:
        row[0].set_ylabel("Accuracy", color=INK, fontsize=9)
    return figure


def say_robustness(record: Mapping[str, Any]) -> str:
    """The clean score and what costs most of it, in a sentence."""
    clean = record["clean"]["accuracy"]
    worst = [
        (harm["points"][-1]["loss"], harm["title"].lower(), format_level(harm, -1))
        for harm in record["harms"]
        if harm["points"]
    ]
    start = f"{clean:.1%} right on {record['num_clips']} clean clips"
    if not worst or max(worst)[0] <= 0:
        return f"{start}; no harm costs any of it"
    loss, title, level = max(worst)
    return f"{start}; most is lost to {title} ({level}): {100 * loss:.1f} points"


def format_level(harm: Mapping[str, Any], index: int) -> str:
    """A level with its unit, for people."""
    level, unit = harm["points"][index]["level"], harm["unit"]
    if unit == "Hz":
        return f"{harm['sense']} {format_hz(level)}".strip()
    if unit == "share of samples":
        return f"{100 * level:g} % of samples"
    return f"{unit} {level:g}" if unit == "compression" else f"{level:g} {unit}"


def _draw_harm(axes: Axes, harm: Mapping[str, Any], clean: float) -> None:
    points: Sequence[Mapping[str, Any]] = harm["points"]
    places = np.arange(len(points))
    accuracy = np.array([point["accuracy"] for point in points])
    ends = np.array([point["accuracy_ci"] or [point["accuracy"]] * 2 for point in points])
    spread = np.maximum([accuracy - ends[:, 0], ends[:, 1] - accuracy], 0.0)
    axes.axhline(clean, ls="--", lw=1.0, color=QUIET)
    axes.errorbar(places, accuracy, spread, fmt="o-", ms=4, lw=1.4, color=BLUE, capsize=2)
    axes.set_ylim(0, 1.03)
    axes.set_xlim(-0.4, len(points) - 0.6)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.xaxis.set_major_locator(FixedLocator(places.tolist()))
    axes.xaxis.set_major_formatter(FixedFormatter([_tick(harm, i) for i in places.tolist()]))
    axes.set_title(harm["title"], fontsize=9, color=INK, loc="left")
    axes.set_xlabel(_axis_words(harm), fontsize=8, color=INK)
    make_plain(axes)


def _tick(harm: Mapping[str, Any], index: int) -> str:
    level, unit = harm["points"][index]["level"], harm["unit"]
    if unit == "Hz":
        return format_hz(level)
    return f"{100 * level:g} %" if unit == "share of samples" else f"{level:g}"


def _axis_words(harm: Mapping[str, Any]) -> str:
    unit = str(harm["unit"])
    if unit == "Hz":
        return str(harm["sense"])
    return "of samples" if unit == "share of samples" else unit
