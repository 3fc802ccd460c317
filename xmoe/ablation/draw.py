"""Tables of a study -> one picture: accuracy against mean K, differences of arms, and windows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from xmoe.ablation.arms import ARMS, ISSUE, REFERENCE
from xmoe.pictures.style import BLUE, GREEN, INK, ORANGE, QUIET, RED, make_plain, new_figure

TARGET = "mean K 1"
LINES = {
    "saliency": (BLUE, "-"),
    "features": (ORANGE, "-"),
    "shuffled": (GREEN, "-"),
    "random_experts": (RED, "-"),
    "entropy_k": (QUIET, "-"),
    "blind_k": (INK, ":"),
}
SELECTORS = {"saliency": BLUE, "energy": ORANGE, "random": RED}


def draw_study(result: Mapping[str, Any]) -> Figure:
    """Return the picture of what ``run_study`` returns."""
    seeds, clips = len(result["seeds"]), result["clips"]["test"]
    title = f"{result['title']}: {seeds} seeds, {clips} test clips, 95 % intervals over clips"
    figure = new_figure(13.5, 4.8, title)
    curves, arms, windows = figure.subplots(1, 3, width_ratios=(1.15, 1.1, 1.0))
    draw_curves(curves, result)
    draw_differences(arms, result["equal_compute"])
    draw_windows(windows, result["windows"])
    return figure


def draw_curves(axes: Axes, result: Mapping[str, Any]) -> None:
    """Draw accuracy against mean K; the band is the interval of the router as designed."""
    for name, (colour, style) in LINES.items():
        rows = [row for row in result["curves"] if row["arm"] == name]
        if not rows:
            continue
        x, y = [row["mean_k"] for row in rows], [100 * row["value"] for row in rows]
        axes.plot(x, y, style, color=colour, label=name, lw=1.6)
        if name == REFERENCE:
            low, high = ([100 * row["ci"][side] for row in rows] for side in (0, 1))
            axes.fill_between(x, low, high, color=colour, alpha=0.12, lw=0)
    best = 100 * result["best_single_expert"]["value"]
    axes.axhline(best, color=QUIET, lw=0.8, ls="--")
    axes.annotate(
        "best one expert, if it were known",
        (0, best),
        xytext=(0, -9),
        textcoords="offset points",
        fontsize=7,
        color=QUIET,
    )
    axes.set_xlabel("mean number of experts asked per segment", fontsize=9)
    axes.set_ylabel("accuracy on test clips, %", fontsize=9)
    axes.set_title("which experts, and how many", fontsize=9, color=INK)
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    make_plain(axes)


def draw_differences(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    """Draw each arm's difference from the router as designed at the same mean K."""
    own = [
        row
        for row in rows
        if row["condition"] == "test" and row["target"] == TARGET and row["arm"] != REFERENCE
    ]
    order = {name: index for index, name in enumerate(ARMS)}
    own.sort(key=lambda row: -order[row["arm"]])
    asked = {arm.name for arm in ISSUE}
    for place, row in enumerate(own):
        colour = BLUE if row["arm"] in asked else QUIET
        value, (low, high) = row["difference"]["value"], row["difference"]["ci"]
        axes.plot([100 * low, 100 * high], [place, place], color=colour, lw=2, alpha=0.5)
        axes.plot(100 * value, place, "o", color=colour, ms=6)
        seeds = row["difference"]["by_seed"]
        axes.plot([100 * v for v in seeds], [place] * len(seeds), "|", color=INK, ms=7, mew=0.8)
    axes.axvline(0, color=INK, lw=0.8)
    axes.set_yticks(range(len(own)), [row["arm"] for row in own])
    axes.set_xlabel("points of accuracy more than saliency; ticks: each seed", fontsize=9)
    axes.set_title(f"difference from the router as designed, {TARGET}", fontsize=9, color=INK)
    make_plain(axes, grid="x")


def draw_windows(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    """Draw accuracy against the share of windows that experts hear, by selector."""
    for name, colour in SELECTORS.items():
        own = [row for row in rows if row["selector"] == name]
        if not own:
            continue
        x, y = [row["fraction"] for row in own], [100 * row["accuracy"]["value"] for row in own]
        axes.plot(x, y, "o-", color=colour, label=name, lw=1.6, ms=4)
        if name == REFERENCE:
            low, high = ([100 * row["accuracy"]["ci"][side] for row in own] for side in (0, 1))
            axes.fill_between(x, low, high, color=colour, alpha=0.12, lw=0)
    axes.set_xscale("log", base=2)
    axes.set_xticks([1 / 16, 1 / 8, 1 / 4], ["1/16", "1/8", "1/4"])
    axes.set_xlabel("share of windows that each of K_max experts hears", fontsize=9)
    axes.set_ylabel("accuracy on test clips, %", fontsize=9)
    axes.set_title("where they look", fontsize=9, color=INK)
    axes.legend(frameon=False, fontsize=8, title="picked by", title_fontsize=8, loc="lower right")
    make_plain(axes)
