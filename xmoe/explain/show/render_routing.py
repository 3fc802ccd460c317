"""Reasons -> who was sent where: the experts asked, how many, and on which windows."""

from __future__ import annotations

import textwrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import PercentFormatter

from xmoe.explain.reasons import Reasons
from xmoe.explain.show.canvas import draw_spectrogram
from xmoe.pictures.style import BLUE, HEAT, INK, QUIET, make_plain, new_figure

WIDTH = 110
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000", "#8a6d3b")


def draw_routing(reasons: Reasons) -> Figure:
    """Bands and windows of each expert, gate, and the promises of K."""
    figure = new_figure(10.5, 7.4, textwrap.fill(_say_routing(reasons), WIDTH))
    grid = figure.add_gridspec(2, 2, width_ratios=(3.4, 1), height_ratios=(1.25, 1))
    sound = figure.add_subplot(grid[0, 0])
    draw_spectrogram(sound, reasons.spec, reasons.scales, words=False)
    sound.set_ylabel("Frequency", color=INK)
    _frame_windows(sound, reasons)
    lanes = figure.add_subplot(grid[1, 0], sharex=sound)
    _draw_lanes(lanes, reasons)
    _draw_promises(figure.add_subplot(grid[0, 1]), reasons)
    _draw_gate(figure.add_subplot(grid[1, 1], sharey=lanes), reasons)
    return figure


def colour_of(reasons: Reasons, name: str) -> str:
    return COLOURS[reasons.plan.expert_names.index(name) % len(COLOURS)]


def band_bins(reasons: Reasons, name: str) -> tuple[float, float]:
    return reasons.scales.bins_of(reasons.bands_hz[name])


def _frame_windows(axes: Axes, reasons: Reasons) -> None:
    """Frame the windows of each expert asked; frames of one place are drawn within each other."""
    inset = 0.006 * len(reasons.spec)
    for order, (name, weight, _) in enumerate(reasons.chosen()):
        low, high = band_bins(reasons, name)
        for start, end in reasons.spans_of(name):
            axes.add_patch(
                Rectangle(
                    (start, low + order * inset),
                    end - start,
                    high - low - 2 * order * inset,
                    fill=False,
                    edgecolor=colour_of(reasons, name),
                    lw=1.2 + 2.0 * weight,
                )
            )
    axes.set_title("Bands and windows that were sent", fontsize=9, color=INK, loc="left")


def _draw_lanes(axes: Axes, reasons: Reasons) -> None:
    """Draw a lane per expert: shade is the score of a window, a frame says that it was sent."""
    plan, scales = reasons.plan, reasons.scales
    scores = plan.window_scores[0].cpu().numpy()
    scores = scores / np.maximum(scores.max(1, keepdims=True), 1e-12)
    edges = float(scales.frame_edges_s[0]) + np.array(plan.window_edges_s)
    lanes = np.arange(len(scores) + 1) - 0.5
    axes.pcolormesh(edges, lanes, scores, cmap=HEAT, vmin=0, vmax=1.4, edgecolors="white", lw=0.3)
    for name, _, _ in reasons.chosen():
        lane = plan.expert_names.index(name)
        for start, end in reasons.spans_of(name):
            axes.add_patch(
                Rectangle(
                    (start, lane - 0.42),
                    end - start,
                    0.84,
                    fill=False,
                    edgecolor=colour_of(reasons, name),
                    lw=2.0,
                )
            )
    names = [name.replace("_", " ") for name in plan.expert_names]
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(labelsize=8, colors=INK)
    axes.set_xlabel("Time (s)", color=INK)
    axes.set_title(
        "Score of each window (dark is high); framed: sent", fontsize=9, color=INK, loc="left"
    )


def _draw_gate(axes: Axes, reasons: Reasons) -> None:
    """Draw the gate; where experts stand in a fixed order, what each counts beside the stem."""
    plan, fixed = reasons.plan, bool(reasons.asked)
    weights = plan.weights[0].tolist()
    counts = {voice.name: voice.counts for voice in reasons.asked}
    gate = [counts.get(name, 0.0) for name in plan.expert_names] if fixed else plan.gate[0].tolist()
    colours = [
        colour_of(reasons, name) if weight > 0 else QUIET
        for name, weight in zip(plan.expert_names, weights, strict=True)
    ]
    bars = axes.barh(range(len(gate)), gate, color=colours, height=0.65)
    labels = [
        "not asked"
        if fixed and not w
        else f"{g:.0%}" + ("" if fixed or not w else f", weight {w:.2f}")
        for g, w in zip(gate, weights, strict=True)
    ]
    axes.bar_label(bars, labels, padding=3, fontsize=8, color=INK)
    axes.set_xlim(0, 1.9)
    axes.set_xticks([0, 0.5, 1.0])
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xlabel("Share of the answer" if fixed else "Gate probability", color=INK)
    axes.tick_params(labelleft=False)
    title = f"What each counts (stem {counts['stem']:.0%})" if fixed else "Which: the gate"
    axes.set_title(title, fontsize=9, color=INK, loc="left")
    make_plain(axes, grid="x")


def _draw_promises(axes: Axes, reasons: Reasons) -> None:
    promises, chosen = reasons.plan.promises[0].tolist(), int(reasons.plan.k[0])
    colours = [BLUE if k == chosen else QUIET for k in range(len(promises))]
    bars = axes.bar(range(len(promises)), promises, color=colours, width=0.65)
    size = 8 if len(promises) < 6 else 6
    axes.bar_label(bars, [f"{p:.2f}" for p in promises], padding=2, fontsize=size, color=INK)
    axes.set_xticks(range(len(promises)))
    axes.set_ylim(0, 1.15)
    axes.set_xlabel("K, experts asked", color=INK)
    axes.set_ylabel("Promised chance to be right", color=INK, fontsize=8)
    rounds = f"{reasons.first_k}, then {chosen}" if reasons.first_k < chosen else f"K = {chosen}"
    axes.set_title(f"How many: {rounds}", fontsize=9, color=INK, loc="left")
    make_plain(axes, grid="y")


def _say_routing(reasons: Reasons) -> str:
    plan, chosen = reasons.plan, reasons.chosen()
    if not chosen:
        return f"K = 0 of {len(plan.expert_names)} experts: the stem answers alone"
    who = ", ".join(f"{name.replace('_', ' ')} ({weight:.2f})" for name, weight, _ in chosen)
    keep, total = plan.spans.shape[2], plan.num_windows
    whole = bool(reasons.own_maps) and keep == total
    sent = "hears the whole segment" if whole else f"is sent {keep} of {total} windows of its band"
    few = [name for name, _, windows in chosen if len(windows) < keep]
    if whole and few:
        sent = f"hears the whole segment, {' and '.join(few)} what stands out most"
    return f"K = {len(chosen)} of {len(plan.expert_names)} experts: {who}; each {sent}"
