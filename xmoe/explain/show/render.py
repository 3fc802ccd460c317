"""Reasons -> pictures: why this label, these experts, this K; what the router saw.

Each returns a ``Figure`` whose title says what is seen, with seconds and Hz on its axes.
``PICTURES`` names all of them, with that of ``render_routing``.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.ticker import MaxNLocator, PercentFormatter
from scipy.ndimage import uniform_filter

from xmoe.explain.judge import Verdict
from xmoe.explain.reasons import Reasons
from xmoe.explain.show.canvas import (
    Array,
    draw_classes,
    draw_map,
    draw_spectrogram,
    mark_end,
    set_axes,
)
from xmoe.explain.show.render_routing import draw_routing
from xmoe.explain.show.render_voices import (
    PER_ROW,
    TOP,
    draw_experts,
    draw_promises,
    draw_voices,
    drawn_experts,
)
from xmoe.explain.show.sentences import METHOD_WORDS, say_place, say_whys
from xmoe.pictures.style import BLUE, INK, RED, make_plain, new_figure

WIDTH = 118
SMOOTH = 3  # cells: single cells of a gradient are too small to see
WATCHED = {
    "label": "Probability of the answer",
    "experts": "Share of the gate",
    "k": "Margin of promises",
}


def draw_answer(reasons: Reasons, method: str = "gradcam") -> Figure:
    """Why this answer: a method's map over the spectrogram, and the map of each expert.

    An expert on sound is drawn on its own spectrogram, one on the stem map on the run's.
    """
    values, own = reasons.maps[method], reasons.own_maps
    experts = drawn_experts(reasons)
    lines = -(-len(experts) // PER_ROW)
    figure = new_figure(10.5, 4.2 + 2.3 * lines)
    rows = figure.add_gridspec(1 + bool(lines), 1, height_ratios=(1.5, lines)[: 1 + bool(lines)])
    top = rows[0].subgridspec(1, 2, width_ratios=(3.2, 1))
    main = figure.add_subplot(top[0])
    draw_spectrogram(main, reasons.spec, reasons.scales)
    if own:
        draw_map(main, uniform_filter(values, SMOOTH), reasons.scales, top=TOP)
    else:
        draw_map(main, values, reasons.scales)
    bars = figure.add_subplot(top[1])
    draw_classes(bars, reasons.probabilities, reasons.classes, reasons.answer_id)
    if experts:
        draw_experts(figure, rows[1].subgridspec(lines, min(len(experts), PER_ROW)), reasons)
    if own:
        main.set_title("All experts together; below: each on its own", fontsize=9, color=INK)
    elif not experts:
        main.set_title("K = 0: the stem answered alone, no expert was asked", fontsize=9, color=INK)
    _set_title(figure, _say_label(reasons, method), _say_faith(reasons, method))
    return figure


def draw_router_saliency(reasons: Reasons) -> Figure:
    """What the router saw: spectrogram, saliency, its profile over time and frequency."""
    values, scales = reasons.maps["saliency"], reasons.scales
    figure = new_figure(10.5, 7.0)
    grid = figure.add_gridspec(3, 2, width_ratios=(4, 1), height_ratios=(1.3, 1.3, 0.7))
    sound = figure.add_subplot(grid[0, 0])
    draw_spectrogram(sound, reasons.spec, scales, words=False)
    sound.set_title("Spectrogram", fontsize=9, color=INK, loc="left")
    seen = figure.add_subplot(grid[1, 0], sharex=sound)
    draw_spectrogram(seen, np.zeros_like(reasons.spec), scales, words=False)
    draw_map(seen, values, scales)
    seen.set_title("What the router finds salient", fontsize=9, color=INK, loc="left")
    for axes in (sound, seen):
        axes.set_ylabel("Frequency", color=INK)
    total = max(float(values.sum()), 1e-12)
    by_time = figure.add_subplot(grid[2, 0], sharex=sound)
    _draw_time_profile(by_time, reasons, values.sum(0) / total)
    bars = figure.add_subplot(grid[0, 1])
    draw_classes(bars, reasons.probabilities, reasons.classes, reasons.answer_id)
    by_bin = figure.add_subplot(grid[1, 1])
    by_bin.fill_betweenx(np.arange(len(values)), values.sum(1) / total, color=BLUE, alpha=0.6, lw=0)
    set_axes(by_bin, scales, words=False)
    by_bin.set_xlim(0, 1.08 * float((values.sum(1) / total).max()) or 1.0)
    by_bin.xaxis.set_major_locator(MaxNLocator(3))
    by_bin.xaxis.set_major_formatter(PercentFormatter(1.0))
    by_bin.set_xlabel("Saliency per bin", color=INK)
    make_plain(by_bin)
    where = say_place(values, scales)
    title = f"What the router looks at: half of its saliency lies in {where}"
    if not values.any():
        title = "What the router looks at: nothing, no cell is salient"
    _set_title(figure, title, _say_faith(reasons, "saliency"))
    return figure


def draw_why(reasons: Reasons, question: str) -> Figure:
    """The map that answers a question, and what is watched as its cells go and come back.

    For experts in a fixed order, also what each contributes and what was promised for it.
    """
    why, fixed = reasons.whys.get(question), bool(reasons.asked)
    if fixed and question == "experts":
        figure = new_figure(10.5, 2.4 + 0.36 * max(len(reasons.asked), 3))
        grid = figure.add_gridspec(1, 2, width_ratios=(2.2, 1))
        draw_voices(figure.add_subplot(grid[0]), figure.add_subplot(grid[1]), reasons)
        _set_title(figure, say_whys(reasons)["experts"], "")
        return figure
    heights = ((1.5,) if why else ()) + ((1.0,) if fixed else ())
    figure = new_figure(10.5, 4.4 if len(heights) < 2 else 6.8)
    score = ""
    if heights:
        grid = figure.add_gridspec(len(heights), 2, width_ratios=(2.4, 1), height_ratios=heights)
        if why is not None:
            score = _draw_evidence(figure, grid, reasons, question)
        if fixed:
            draw_promises(figure.add_subplot(grid[-1, :]), reasons)
    _set_title(figure, say_whys(reasons)[question], score)
    return figure


def _draw_evidence(figure: Figure, grid: GridSpec, reasons: Reasons, question: str) -> str:
    """Draw a map with its curves in the first row of a grid; returns its score in words."""
    why = reasons.whys[question]
    main = figure.add_subplot(grid[0, 0])
    draw_spectrogram(main, reasons.spec, reasons.scales)
    shown = uniform_filter(why.values, SMOOTH) if why.method == "gradient_x_input" else why.values
    draw_map(main, shown, reasons.scales)
    main.set_title(f"What speaks for {why.target}", fontsize=9, color=INK, loc="left")
    curves = figure.add_subplot(grid[0, 1])
    _draw_curves(curves, why.verdict, why.random)
    curves.set_ylabel(WATCHED[question], color=INK, fontsize=8)
    unit = "+.3f" if question == "k" else ".2f"
    return (
        f"deletion {why.verdict.deletion:{unit}} (random {why.random.deletion:{unit}}), "
        f"insertion {why.verdict.insertion:{unit}} (random {why.random.insertion:{unit}})"
    )


PICTURES: dict[str, Callable[[Reasons], Figure]] = {
    "gradcam": draw_answer,
    "saliency_router": draw_router_saliency,
    "patch_routing": draw_routing,
    "why_experts": partial(draw_why, question="experts"),
    "why_k": partial(draw_why, question="k"),
}


def _draw_curves(axes: Axes, verdict: Verdict, random: Verdict) -> None:
    shares = np.linspace(0.0, 1.0, len(verdict.removed))
    axes.plot(shares, verdict.removed, color=RED, label="filled, strongest first")
    axes.plot(shares, random.removed, color=RED, ls=":", lw=1.0, label="filled at random")
    axes.plot(shares, verdict.restored, color=BLUE, label="shown, strongest first")
    axes.plot(shares, random.restored, color=BLUE, ls=":", lw=1.0, label="shown at random")
    axes.set_xlabel("Share of all cells", color=INK)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.legend(fontsize=7, frameon=False, ncols=2, loc="lower center", bbox_to_anchor=(0.45, 1.0))
    make_plain(axes)


def _set_title(figure: Figure, sentence: str, score: str) -> None:
    lines = [*textwrap.wrap(sentence, WIDTH), *([score] if score else [])]
    figure.suptitle("\n".join(lines), color=INK, fontsize=10)


def _say_label(reasons: Reasons, method: str) -> str:
    why = reasons.whys["label"]
    if method == why.method:
        return say_whys(reasons)["label"]
    values = reasons.maps[method]
    place = say_place(values, reasons.scales)
    return f"Why {why.target}: half of {METHOD_WORDS[method]} lies in {place}"


def _draw_time_profile(axes: Axes, reasons: Reasons, share: Array) -> None:
    scales = reasons.scales
    axes.fill_between(scales.frame_times_s, share, color=BLUE, alpha=0.6, lw=0)
    axes.set_xlim(scales.frame_edges_s[0], scales.frame_edges_s[-1])
    axes.set_ylim(0, 1.08 * float(share.max()) or 1.0)
    axes.yaxis.set_major_locator(MaxNLocator(3))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_ylabel("Saliency\nper frame", color=INK, fontsize=8)
    axes.set_xlabel("Time (s)", color=INK)
    sent = sorted({span for name, _, _ in reasons.chosen() for span in reasons.sent_to(name)})
    for start, end in scales.merge_spans(sent):
        axes.axvspan(start, end, color=RED, alpha=0.12, lw=0)
    if sent:
        axes.set_title("Tinted: sent to some expert", fontsize=9, color=INK, loc="left")
    mark_end(axes, scales)
    make_plain(axes)


def _say_faith(reasons: Reasons, method: str) -> str:
    verdict, chance = reasons.verdicts[method], reasons.verdicts["random"]
    return (
        f"deletion {verdict.deletion:.2f} (random {chance.deletion:.2f}, low is good), "
        f"insertion {verdict.insertion:.2f} (random {chance.insertion:.2f}, high is good)"
    )
