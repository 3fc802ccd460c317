"""Reasons -> three pictures: why this answer, what the router saw, who was sent where.

Each returns a ``Figure`` whose title says what is seen, with seconds and Hz on its axes.
"""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, PercentFormatter

from xmoe.explain.canvas import Array, draw_classes, draw_map, draw_spectrogram, set_axes
from xmoe.explain.numbers import describe_map
from xmoe.explain.reasons import Reasons
from xmoe.model.experts import band_rows
from xmoe.model.stem import DECIMATION
from xmoe.pictures.style import BLUE, HEAT, INK, QUIET, RED, make_plain, new_figure
from xmoe.units import format_hz

METHOD_WORDS = {
    "gradcam": "Grad-CAM on the stem map",
    "gradient_x_input": "gradient x input",
    "saliency": "the router's saliency",
}
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000", "#8a6d3b")
MOST_PANELS = 4


def draw_answer(reasons: Reasons, method: str = "gradcam") -> Figure:
    """Return why this answer: a method's map over the spectrogram, and the map of each expert."""
    values = reasons.maps[method]
    experts = reasons.chosen()[:MOST_PANELS]
    figure = new_figure(10.5, 6.4 if experts else 4.2)
    rows = figure.add_gridspec(
        2 if experts else 1, 1, height_ratios=(1.5, 1)[: 2 if experts else 1]
    )
    top = rows[0].subgridspec(1, 2, width_ratios=(3.2, 1))
    main = figure.add_subplot(top[0])
    draw_spectrogram(main, reasons.spec, reasons.scales)
    draw_map(main, values, reasons.scales)
    bars = figure.add_subplot(top[1])
    draw_classes(bars, reasons.probabilities, reasons.classes, reasons.answer_id)
    if experts:
        _draw_expert_maps(figure, rows[1].subgridspec(1, len(experts)), reasons)
    else:
        main.set_title("K = 0: the stem answered alone, no expert was asked", fontsize=9, color=INK)
    figure.suptitle(
        f"Why {reasons.target}: {METHOD_WORDS.get(method, method)}, {_say_place(reasons, method)}\n"
        f"{_say_faith(reasons, method)}",
        color=INK,
        fontsize=11,
    )
    return figure


def draw_router_saliency(reasons: Reasons) -> Figure:
    """Return what the router saw: spectrogram, saliency, its profile over time and frequency."""
    values, scales = reasons.maps["saliency"], reasons.scales
    figure = new_figure(10.5, 7.0)
    grid = figure.add_gridspec(3, 2, width_ratios=(4, 1), height_ratios=(1.3, 1.3, 0.7))
    sound = figure.add_subplot(grid[0, 0])
    draw_spectrogram(sound, reasons.spec, scales, words=False)
    sound.set_title("What was heard", fontsize=9, color=INK, loc="left")
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
    by_bin.set_xlim(0, float((values.sum(1) / total).max()) * 1.08 + 1e-9)
    by_bin.xaxis.set_major_locator(MaxNLocator(3))
    by_bin.xaxis.set_major_formatter(PercentFormatter(1.0))
    by_bin.set_xlabel("Saliency per bin", color=INK)
    make_plain(by_bin)
    figure.suptitle(
        f"What the router looks at: {_say_place(reasons, 'saliency')}\n"
        f"{_say_faith(reasons, 'saliency')}",
        color=INK,
        fontsize=11,
    )
    return figure


def draw_routing(reasons: Reasons) -> Figure:
    """Return who was sent where: bands and windows of each expert, gate, and the promises of K."""
    figure = new_figure(10.5, 7.4, _say_routing(reasons))
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
    """Return the colour of an expert, the same in every picture."""
    return COLOURS[reasons.plan.expert_names.index(name) % len(COLOURS)]


def _draw_expert_maps(figure: Figure, cells: object, reasons: Reasons) -> None:
    """Draw the Grad-CAM of each expert asked, on its last map, in the colour of the expert."""
    for column, (name, weight, windows) in enumerate(reasons.chosen()[:MOST_PANELS]):
        axes = figure.add_subplot(cells[0, column])  # type: ignore[index]
        draw_spectrogram(axes, reasons.spec, reasons.scales, words=False)
        draw_map(axes, reasons.expert_maps[name], reasons.scales)
        set_axes(axes, reasons.scales, words=False, most=5)
        _shade_unseen(axes, reasons, name, windows)
        axes.set_xlabel("Time (s)", color=INK, fontsize=8)
        axes.spines[:].set_color(colour_of(reasons, name))
        axes.spines[:].set_linewidth(1.6)
        title = f"{name.replace('_', ' ')}, weight {weight:.2f}"
        axes.set_title(title, fontsize=9, color=colour_of(reasons, name))


def _shade_unseen(axes: Axes, reasons: Reasons, name: str, windows: list[int]) -> None:
    """Veil what an expert was not sent: rows beyond its band, times between its windows."""
    scales, plan = reasons.scales, reasons.plan
    low, high = _band_bins(reasons, name)
    for bottom, top in ((-0.5, low), (high, len(reasons.spec) - 0.5)):
        axes.axhspan(bottom, top, color="white", alpha=0.75, lw=0)
    start = float(scales.frame_edges_s[0])
    end = float(scales.frame_edges_s[-1])
    for first, last in [*scales.spans_s(windows, plan.window_frames), (end, end)]:
        axes.axvspan(start, first, color="white", alpha=0.75, lw=0)
        start = last


def _band_bins(reasons: Reasons, name: str) -> tuple[float, float]:
    first, last = band_rows(name, reasons.plan.quantised.shape[2])
    return first * DECIMATION - 0.5, last * DECIMATION - 0.5


def _frame_windows(axes: Axes, reasons: Reasons) -> None:
    """Frame the windows of each expert asked; frames of one place are drawn within each other."""
    inset = 0.006 * len(reasons.spec)
    for order, (name, weight, windows) in enumerate(reasons.chosen()):
        low, high = _band_bins(reasons, name)
        for start, end in reasons.scales.spans_s(windows, reasons.plan.window_frames):
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
    edges = [scales.window_s(p, plan.window_frames)[0] for p in range(plan.num_windows)]
    edges.append(float(scales.frame_edges_s[-1]))
    lanes = np.arange(len(scores) + 1) - 0.5
    axes.pcolormesh(edges, lanes, scores, cmap=HEAT, vmin=0, vmax=1.4, edgecolors="white", lw=0.3)
    for name, _, windows in reasons.chosen():
        lane = plan.expert_names.index(name)
        for start, end in scales.spans_s(windows, plan.window_frames):
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
    plan = reasons.plan
    gate, weights = plan.gate[0].tolist(), plan.weights[0].tolist()
    colours = [
        colour_of(reasons, name) if weight > 0 else QUIET
        for name, weight in zip(plan.expert_names, weights, strict=True)
    ]
    bars = axes.barh(range(len(gate)), gate, color=colours, height=0.65)
    labels = [
        f"{g:.0%}, weight {w:.2f}" if w > 0 else f"{g:.0%}"
        for g, w in zip(gate, weights, strict=True)
    ]
    axes.bar_label(bars, labels, padding=3, fontsize=8, color=INK)
    axes.set_xlim(0, 1.9)
    axes.set_xticks([0, 0.5, 1.0])
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xlabel("Gate probability", color=INK)
    axes.tick_params(labelleft=False)
    axes.set_title("Which: the gate", fontsize=9, color=INK, loc="left")
    make_plain(axes, grid="x")


def _draw_promises(axes: Axes, reasons: Reasons) -> None:
    promises, chosen = reasons.plan.promises[0].tolist(), int(reasons.plan.k[0])
    colours = [BLUE if k == chosen else QUIET for k in range(len(promises))]
    bars = axes.bar(range(len(promises)), promises, color=colours, width=0.65)
    axes.bar_label(bars, [f"{p:.2f}" for p in promises], padding=2, fontsize=8, color=INK)
    axes.set_xticks(range(len(promises)))
    axes.set_ylim(0, 1.15)
    axes.set_xlabel("K, experts asked", color=INK)
    axes.set_ylabel("Promised chance to be right", color=INK, fontsize=8)
    axes.set_title(f"How many: K = {chosen}", fontsize=9, color=INK, loc="left")
    make_plain(axes, grid="y")


def _draw_time_profile(axes: Axes, reasons: Reasons, share: Array) -> None:
    scales = reasons.scales
    axes.fill_between(scales.frame_times_s, share, color=BLUE, alpha=0.6, lw=0)
    axes.set_xlim(scales.frame_edges_s[0], scales.frame_edges_s[-1])
    axes.set_ylim(0, float(share.max()) * 1.08 + 1e-9)
    axes.yaxis.set_major_locator(MaxNLocator(3))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_ylabel("Saliency\nper frame", color=INK, fontsize=8)
    axes.set_xlabel("Time (s)", color=INK)
    sent = sorted({window for _, _, windows in reasons.chosen() for window in windows})
    for start, end in scales.spans_s(sent, reasons.plan.window_frames):
        axes.axvspan(start, end, color=RED, alpha=0.12, lw=0)
    if sent:
        axes.set_title("Tinted: sent to some expert", fontsize=9, color=INK, loc="left")
    make_plain(axes)


def _say_place(reasons: Reasons, method: str) -> str:
    place = describe_map(reasons.maps[method], reasons.scales)
    if not place:
        return "zero everywhere"
    low, high = place["band_hz"]
    start, end = place["span_s"]
    return f"90 % of it in {start:.2f}-{end:.2f} s, {format_hz(low)} - {format_hz(high)}"


def _say_faith(reasons: Reasons, method: str) -> str:
    deletion, insertion = reasons.faithfulness[method]
    chance = reasons.faithfulness["random"]
    return (
        f"deletion {deletion:.2f} (random {chance[0]:.2f}, low is good), "
        f"insertion {insertion:.2f} (random {chance[1]:.2f}, high is good)"
    )


def _say_routing(reasons: Reasons) -> str:
    plan, chosen = reasons.plan, reasons.chosen()
    if not chosen:
        return f"K = 0 of {len(plan.expert_names)} experts: the stem answers alone"
    who = ", ".join(f"{name.replace('_', ' ')} ({weight:.2f})" for name, weight, _ in chosen)
    keep = plan.windows.shape[2]
    return (
        f"K = {len(chosen)} of {len(plan.expert_names)} experts: {who}\n"
        f"each is sent {keep} of {plan.num_windows} windows of its band"
    )
