"""Reasons -> what each expert saw; where they stand in a fixed order, what each says and costs."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from xmoe.explain.reasons import Reasons
from xmoe.explain.show.canvas import draw_map, draw_spectrogram, set_axes
from xmoe.explain.show.render_routing import band_bins, colour_of
from xmoe.pictures.style import BLUE, INK, QUIET, RED, make_plain, shorten

PER_ROW = 4
MOST_OWN = 8
LEAST_SPAN = 0.1  # of an axis of promises; a difference of a thousandth is none
TOP = 0.99  # quantile of a map that is drawn as its peak


def draw_experts(figure: Figure, cells: Any, reasons: Reasons) -> None:
    """Draw the map of each expert asked in its colour: on its own spectrogram, where it has one.

    What it was not sent stays white.
    """
    chosen = drawn_experts(reasons)
    for place, (name, weight, _) in enumerate(chosen):
        colour = colour_of(reasons, name)
        axes = figure.add_subplot(cells[place // PER_ROW, place % PER_ROW])
        own = reasons.own_maps.get(name)
        if own is None:
            draw_spectrogram(axes, reasons.spec, reasons.scales, words=False)
            draw_map(axes, reasons.expert_maps[name], reasons.scales)
            set_axes(axes, reasons.scales, words=False, most=5)
            _shade_unseen(axes, reasons, name)
        else:
            draw_spectrogram(axes, own.spec, own.scales, words=False)
            draw_map(axes, own.values, own.scales, top=TOP)
            set_axes(axes, own.scales, words=False, most=5)
            axes.set_xlim(reasons.scales.frame_edges_s[0], reasons.scales.frame_edges_s[-1])
        if place + PER_ROW >= len(chosen):
            axes.set_xlabel("Time (s)", color=INK, fontsize=8)
        axes.spines[:].set_color(colour)
        axes.spines[:].set_linewidth(1.6)
        title = f"{name.replace('_', ' ')}, weight {weight:.2f}{_say_alone(reasons, name)}"
        if own is not None and not own.values.any():
            title += ", no map"
        axes.set_title(title, fontsize=9, color=colour)


def _say_alone(reasons: Reasons, name: str) -> str:
    alone = next((voice.alone for voice in reasons.asked if voice.name == name), None)
    if alone is None:
        return ""
    return f"\nsays {shorten(reasons.classes[int(alone.argmax())], 16)} {alone.max():.2f}"


def drawn_experts(reasons: Reasons) -> list[tuple[str, float, list[int]]]:
    """The experts that are drawn, heaviest first: one row, or two where some are on sound."""
    return reasons.chosen()[: MOST_OWN if reasons.own_maps else PER_ROW]


def _shade_unseen(axes: Axes, reasons: Reasons, name: str) -> None:
    """Veil what an expert was not sent: rows beyond its band, times between its windows."""
    scales = reasons.scales
    low, high = band_bins(reasons, name)
    for bottom, top in ((-0.5, low), (high, len(reasons.spec) - 0.5)):
        axes.axhspan(bottom, top, color="white", alpha=0.75, lw=0)
    start = float(scales.frame_edges_s[0])
    end = float(scales.frame_edges_s[-1])
    for first, last in [*reasons.spans_of(name), (end, end)]:
        axes.axvspan(start, first, color="white", alpha=0.75, lw=0)
        start = last


def draw_voices(axes: Axes, table: Axes, reasons: Reasons) -> None:
    """Draw what stem and experts give the answer alone, and what it would be without each."""
    answer = reasons.answer_id
    now, places = float(reasons.probabilities[answer]), np.arange(len(reasons.asked))
    alone = [float(voice.alone[answer]) for voice in reasons.asked]
    colours = [QUIET, *(colour_of(reasons, voice.name) for voice in reasons.asked[1:])]
    axes.barh(places, alone, color=colours, height=0.6, alpha=0.75)
    for y, voice in zip(places, reasons.asked, strict=True):
        if voice.without is not None:
            words = None if y else "the answer without it"
            left = float(voice.without[answer])
            axes.scatter(left, y, marker="D", s=36, fc="white", ec=INK, zorder=3, label=words)
    axes.axvline(now, color=RED, lw=1.2, label=f"the answer, p = {now:.2f}")
    names = [voice.name.replace("_", " ") for voice in reasons.asked]
    axes.set_yticks(places, [f"{y}  {name}" if y else name for y, name in enumerate(names)])
    axes.set_ylim(*_heights(reasons))
    axes.set_xlim(0, 1.02)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xlabel(f"Probability of {reasons.classes[answer]}; bars: each alone", color=INK)
    axes.legend(fontsize=8, frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(0.0, 1.0))
    axes.tick_params(labelsize=8, colors=INK)
    make_plain(axes, grid="x")
    _write_table(table, reasons)


def _write_table(axes: Axes, reasons: Reasons) -> None:
    axes.axis("off")
    axes.set_xlim(0, 1)
    axes.set_ylim(*_heights(reasons))
    rows = [("says", "counts", "costs")] + [
        (
            f"{shorten(reasons.classes[int(voice.alone.argmax())], 16)} {voice.alone.max():.2f}",
            f"{voice.counts:.0%}",
            f"{voice.cost_ms:.1f} ms" if voice.cost_ms else "",
        )
        for voice in reasons.asked
    ]
    for y, row in enumerate(rows):
        for x, word, side in zip((0.0, 0.7, 1.0), row, ("left", "right", "right"), strict=True):
            axes.text(x, y - 1, word, ha=side, va="center", fontsize=8, color=INK)


def _heights(reasons: Reasons) -> tuple[float, float]:
    """Where rows begin and end; a few rows leave room for what stands above them."""
    return max(len(reasons.asked), 3) - 0.4, -0.6


def draw_promises(axes: Axes, reasons: Reasons) -> None:
    """Draw what is promised for each number of experts over what they cost, in both rounds."""
    first, last = reasons.first_k, int(reasons.plan.k[0])
    costs, promised = np.array(reasons.costs), reasons.plan.promises[0].cpu().numpy()
    axes.plot(costs, promised, color=BLUE, marker="o", ms=4, label="promised by the glance")
    for k, (cost, promise) in enumerate(zip(costs, promised, strict=True)):
        axes.annotate(
            f"{k}", (cost, promise), (-3, 6), textcoords="offset points", fontsize=8, color=INK
        )
    if reasons.again is not None:
        later = costs[first:], reasons.again[first:]
        axes.plot(*later, color=RED, marker="o", ms=4, label=f"once {first} had answered")
    end = reasons.again if last > first and reasons.again is not None else promised
    if last < len(end):
        asked = (costs[last], end[last])
        axes.plot(*asked, ls="none", marker="o", ms=11, mfc="none", mec=INK, label=f"K = {last}")
    unit = "ms" if reasons.routing.costs_ms else "experts"
    axes.set_xlabel(f"Cost of the experts ({unit}); numbers: how many", color=INK)
    axes.set_ylabel("Promised chance\nto be right", color=INK, fontsize=8)
    axes.margins(y=0.2)
    _widen(axes, LEAST_SPAN)
    axes.legend(fontsize=8, frameon=False, loc="best")
    make_plain(axes, grid="y")


def _widen(axes: Axes, span: float) -> None:
    """Let the vertical axis span no less than ``span``."""
    low, high = axes.get_ylim()
    more = max(span - (high - low), 0.0) / 2
    axes.set_ylim(low - more, high + more)
