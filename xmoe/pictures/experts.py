"""Expert usage -> how often each is asked, by class, and how many are asked at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from xmoe.pictures.style import BLUE, HEAT, INK, make_plain, new_figure, shorten, write_cells

MOST_NUMBERED_ROWS = 40


def draw_expert_usage(usage: Mapping[str, Any]) -> Figure:
    """``expert_usage.json``: ``selection_rate`` {expert: share of clips}, ``by_class`` {class:
    {"selection_rate", "mean_k"}}, ``mean_k`` and ``load_balance``.
    """
    rate: Mapping[str, float] = usage["selection_rate"]
    by_class: Mapping[str, Any] = usage["by_class"]
    experts = list(rate)
    height = float(np.clip(2.6 + 0.27 * len(by_class), 4.2, 16.0))
    figure = new_figure(8.2, height, _say_usage(usage))
    rows = max(len(by_class), 1)
    top, low = figure.subplots(2, 1, sharex=True, height_ratios=(1.3, max(2.4, 0.27 * rows)))
    bars = top.bar(range(len(experts)), list(rate.values()), color=BLUE, width=0.7)
    top.bar_label(bars, [f"{share:.0%}" for share in rate.values()], fontsize=8, color=INK)
    top.set_ylim(0, max(1e-3, *rate.values()) * 1.25)
    top.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    top.set_ylabel("of all clips", color=INK)
    make_plain(top, grid="y")
    _draw_by_class(low, by_class, experts)
    return figure


def _draw_by_class(axes: Axes, by_class: Mapping[str, Any], experts: list[str]) -> None:
    if not by_class:
        axes.set_visible(False)
        return
    share = np.array([[row["selection_rate"][e] for e in experts] for row in by_class.values()])
    axes.imshow(share, cmap=HEAT, vmin=0.0, vmax=1.0, aspect="auto")
    names = [f"{shorten(name)}  (K {row['mean_k']:.1f})" for name, row in by_class.items()]
    axes.set_yticks(range(len(names)), names)
    axes.set_xticks(range(len(experts)), [name.replace("_", "\n") for name in experts])
    axes.tick_params(labelsize=8, colors=INK, length=0)
    axes.set_ylabel("of each class", color=INK)
    if len(names) <= MOST_NUMBERED_ROWS:
        write_cells(axes, share, {cell: f"{value:.0%}" for cell, value in np.ndenumerate(share)}, 7)


def _say_usage(usage: Mapping[str, Any]) -> str:
    rate: Mapping[str, float] = usage["selection_rate"]
    mean_k = float(usage["mean_k"])
    if not any(rate.values()):
        return "Share of clips that ask each expert: none is asked, the stem answers alone"
    most = max(rate, key=lambda name: rate[name])
    balance = float(usage.get("load_balance", 1.0))
    return (
        f"Share of clips that ask each expert: {most} is asked most\n"
        f"{mean_k:.2f} experts per clip on average; load balance {balance:.2f} (1 is even)"
    )


def draw_k_histogram(usage: Mapping[str, Any]) -> Figure:
    counts = {int(k): int(count) for k, count in usage["k_histogram"].items()}
    if not counts:
        raise ValueError("no clips to draw")
    values = range(max(counts) + 1)
    shown = [counts.get(k, 0) for k in values]
    total = max(sum(shown), 1)
    mean_k = float(usage["mean_k"])
    title = (
        f"{shown[0] / total:.0%} of the clips are answered by the stem alone; mean K {mean_k:.2f}"
    )
    figure = new_figure(5.6, 3.4, title)
    axes = figure.add_subplot()
    bars = axes.bar(values, shown, color=BLUE, width=0.7)
    axes.bar_label(bars, [f"{count}\n{count / total:.0%}" for count in shown], fontsize=8)
    axes.set_ylim(0, max(shown) * 1.22)
    axes.set_xticks(list(values))
    axes.set_xlabel("K, experts asked for a clip", color=INK)
    axes.set_ylabel("Clips", color=INK)
    make_plain(axes, grid="y")
    return figure
