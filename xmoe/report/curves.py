"""Pictures that only the report has: accuracy against K and cost, K against the noise of a clip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from xmoe.pictures.style import BLUE, INK, ORANGE, QUIET, make_plain, new_figure

MOST_STEPS = 8
FEWEST_PER_STEP = 8


def draw_accuracy_by_k(metrics: Mapping[str, Any]) -> Figure:
    """Accuracy with K fixed at 0, 1, ... and, beside it, where the chosen K stands.

    Reads ``accuracy_at_fixed_k``, ``accuracy``, ``accuracy_ci`` and ``mean_k`` of ``metrics.json``.
    """
    fixed = sorted((int(k), float(value)) for k, value in metrics["accuracy_at_fixed_k"].items())
    mean_k, accuracy = float(metrics["mean_k"]), float(metrics["accuracy"])
    title = (
        f"The router asks {mean_k:.2f} experts on average\nand scores {accuracy:.1%}; "
        f"{fixed[-1][0]} for every clip score {fixed[-1][1]:.1%}, the stem alone {fixed[0][1]:.1%}"
    )
    figure = new_figure(5.8, 4.0, title)
    axes = figure.add_subplot()
    ks, values = zip(*fixed, strict=True)
    axes.plot(ks, values, "o-", color=QUIET, label="K fixed for every clip")
    low, high = metrics.get("accuracy_ci") or (accuracy, accuracy)
    spread = [[max(accuracy - low, 0.0)], [max(high - accuracy, 0.0)]]
    axes.errorbar(
        [mean_k], [accuracy], spread, fmt="D", color=ORANGE, capsize=3, label="K chosen by clip"
    )
    axes.set_xticks(ks)
    axes.set_xlabel("Mean K, experts asked per clip", color=INK)
    axes.set_ylabel("Accuracy on test", color=INK)
    bottom = min(*values, low)
    top = max(*values, high)
    room = max(0.08 * (top - bottom), 0.005)
    axes.set_ylim(bottom - room, top + room)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=1))
    axes.legend(fontsize=8, frameon=False, loc="lower right")
    make_plain(axes)
    return figure


def draw_accuracy_by_ms(metrics: Mapping[str, Any]) -> Figure:
    """Accuracy against milliseconds of a core: routed, blindly chosen, each expert.

    Reads ``curve``, ``accuracy_at_fixed_k``, ``ms_at_fixed_k``, ``alone``, ``ms_alone``,
    ``accuracy`` and ``mean_ms`` of ``metrics.json``.
    """
    fixed, ms = metrics["accuracy_at_fixed_k"], metrics["ms_at_fixed_k"]
    order = sorted(fixed, key=int)
    curve = sorted((point["mean_ms"], point["accuracy"]) for point in metrics["curve"])
    every, mean_ms = ms[order[-1]], metrics["mean_ms"]
    many = "its one expert" if int(order[-1]) == 1 else f"all {order[-1]} experts"
    words = (
        f"{metrics['accuracy']:.1%} for {mean_ms:.1f} ms a segment; "
        f"{many} {fixed[order[-1]]:.1%} for {every:.1f} ms"
    )
    figure = new_figure(6.4, 4.2, words)
    axes = figure.add_subplot()
    axes.plot(
        [ms[k] for k in order],
        [fixed[k] for k in order],
        "o--",
        color=QUIET,
        label="the same number of experts for every clip",
    )
    axes.plot(*zip(*curve, strict=True), "-", color=BLUE, lw=2, label="as promises say, any price")
    axes.plot(mean_ms, metrics["accuracy"], "D", color=ORANGE, label="the run at its budget")
    glance = ms["0"]
    for index, (name, accuracy) in enumerate(metrics["alone"].items()):
        cost = metrics["ms_alone"][name]
        label = "one expert alone" if index == 0 else None
        axes.plot(glance + cost, accuracy, "x", color=INK, ms=5, label=label)
    axes.set_xlabel("Milliseconds of one processor, a segment", color=INK)
    axes.set_ylabel("Accuracy on test", color=INK)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    axes.legend(fontsize=8, frameon=False, loc="lower right")
    make_plain(axes)
    return figure


def draw_k_by_snr(snr_db: Sequence[float], k: Sequence[float]) -> Figure:
    """Each clip's K against its SNR, and the mean of K over steps of equally many clips.

    Raises ValueError where no clip has both.
    """
    both = np.array([snr_db, k], dtype=np.float64)
    both = both[:, np.isfinite(both).all(0)]
    if not both.size:
        raise ValueError("no clip has both an SNR and a K")
    both = both[:, np.argsort(both[0], kind="stable")]
    figure = new_figure(6.0, 4.0, _say_trend(both))
    axes = figure.add_subplot()
    jitter = np.random.default_rng(0).uniform(-0.08, 0.08, both.shape[1])
    axes.plot(both[0], both[1] + jitter, ".", color=QUIET, alpha=0.35, ms=5, label="a clip")
    count = max(1, min(MOST_STEPS, both.shape[1] // FEWEST_PER_STEP))
    steps = np.array_split(both, count, axis=1)
    middle = [float(step[0].mean()) for step in steps]
    mean = [float(step[1].mean()) for step in steps]
    error = [1.96 * float(step[1].std()) / np.sqrt(step.shape[1]) for step in steps]
    below = np.minimum(error, mean)
    axes.errorbar(
        middle, mean, (below, error), fmt="o-", color=BLUE, capsize=2, label="mean, 95 % interval"
    )
    axes.set_xlabel("SNR proxy of the clip (dB)", color=INK)
    axes.set_ylabel("K, experts asked", color=INK)
    axes.set_ylim(-0.2, max(1.0, float(both[1].max())) + 0.3)
    axes.legend(fontsize=8, frameon=False, loc="upper right")
    make_plain(axes)
    return figure


def _say_trend(both: npt.NDArray[np.float64]) -> str:
    half = both.shape[1] // 2
    if not half:
        return "K against SNR: one clip"
    noisy, clean = float(both[1, :half].mean()), float(both[1, -half:].mean())
    return (
        f"The noisier half of the clips asks {noisy:.2f} experts on average,\n"
        f"the cleaner half {clean:.2f}"
    )
