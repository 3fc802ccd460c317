"""The reliability curve -> how far confidence can be trusted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from xmoe.pictures.style import BLUE, INK, QUIET, RED, make_plain, new_figure


def draw_calibration(metrics: Mapping[str, Any]) -> Figure:
    """``calibration``, ``ece`` and ``ece_ci`` of ``metrics.json``."""
    curve = metrics["calibration"]
    confidence, share = (np.asarray(curve[name], float) for name in ("confidence", "accuracy"))
    count = np.asarray(curve["count"], float)
    figure = new_figure(4.8, 5.4, _say_calibration(metrics, confidence, share, count))
    top, low = figure.subplots(2, 1, sharex=True, height_ratios=(3.2, 1))
    top.plot((0, 1), (0, 1), "--", color=QUIET, lw=1.2, label="perfect")
    error = 1.96 * np.sqrt(np.clip(share * (1 - share), 1e-4, None) / count)
    spread = (np.minimum(error, share), np.minimum(error, 1 - share))
    top.vlines(confidence, confidence, share, color=RED, lw=2.0, alpha=0.6, label="gap")
    top.errorbar(confidence, share, spread, fmt="o-", color=BLUE, capsize=2, label="measured")
    top.set_ylabel("Share that was right", color=INK)
    top.set_ylim(0, 1.03)
    top.yaxis.set_major_formatter(PercentFormatter(1.0))
    top.legend(fontsize=8, frameon=False, loc="upper left")
    low.bar(confidence, count, width=0.045, color=BLUE)
    low.set_ylabel("Answers", color=INK)
    low.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    low.set_xlim(-0.02, 1.03)
    low.xaxis.set_major_formatter(PercentFormatter(1.0))
    low.set_xlabel("Probability that the answer claimed", color=INK)
    for axes in (top, low):
        make_plain(axes)
    return figure


def _say_calibration(
    metrics: Mapping[str, Any],
    confidence: np.ndarray[Any, Any],
    share: np.ndarray[Any, Any],
    count: np.ndarray[Any, Any],
) -> str:
    lean = float(((confidence - share) * count).sum() / count.sum())
    bounds = metrics.get("ece_ci")
    interval = f" ({bounds[0]:.3f} to {bounds[1]:.3f})" if bounds else ""
    error = f"Calibration error {metrics['ece']:.3f}{interval}"
    if abs(lean) < 0.005:
        return f"{error}\nconfidence is right on average"
    return f"{error}\n{abs(lean):.1%} too {'sure' if lean > 0 else 'unsure'} on average"
