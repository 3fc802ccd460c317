"""Axes in Hz and seconds, and what is drawn on them: spectrograms, maps, bars of classes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator, PercentFormatter

from xmoe.base.units import format_hz
from xmoe.explain.scales import Scales
from xmoe.pictures.style import BLUE, INK, ORANGE, QUIET, RED, make_plain, shorten

Array = npt.NDArray[np.floating]
GLOW = LinearSegmentedColormap.from_list("glow", [ORANGE, RED, "#7a1f00"])
MOST_CLASSES = 10
SHOWN_Z = (-1.5, 4.0)
LATE = 0.95  # of a segment; behind it there is no room for words


def draw_spectrogram(axes: Axes, spec: Array, scales: Scales, *, words: bool = True) -> None:
    """Draw a spectrogram [F, T] of z-scores, dark where it is loud, white where there is none."""
    low, high = SHOWN_Z
    axes.imshow(
        spec,
        origin="lower",
        aspect="auto",
        cmap="gray_r",
        extent=_extent(scales),
        vmin=max(low, float(np.nanmin(spec))),
        vmax=min(high, float(np.nanmax(spec))) + 1e-6,
        interpolation="nearest",
    )
    set_axes(axes, scales, words=words)
    mark_end(axes, scales, words=words)


def mark_end(axes: Axes, scales: Scales, *, words: bool = False) -> None:
    """Hatch what lies behind the end of a recording that is shorter than its segment."""
    end_s = scales.extent_s[1]
    if not scales.is_cut_short:
        return
    axes.axvspan(
        scales.sound_ends_s, end_s, fill=False, hatch="////", edgecolor=QUIET, lw=0, zorder=3
    )
    axes.axvline(scales.sound_ends_s, color=INK, lw=1.0, ls="--", zorder=3)
    if words:
        begins_s = scales.extent_s[0]
        late = scales.sound_ends_s > begins_s + LATE * (end_s - begins_s)
        axes.annotate(
            "recording ends",
            (scales.sound_ends_s, 0.97),
            xycoords=("data", "axes fraction"),
            xytext=(-3 if late else 3, 0),
            ha="right" if late else "left",
            textcoords="offset points",
            va="top",
            rotation=90,
            fontsize=8,
            color=INK,
            bbox={"fc": "white", "ec": "none", "alpha": 0.8, "pad": 1.0},
            zorder=4,
        )


def draw_map(axes: Axes, values: Array, scales: Scales, *, top: float = 1.0) -> None:
    """Lay a map [F, T] over a spectrogram, strong where it is high; the line is half its peak.

    With ``top`` < 1 the peak is that quantile: a few extreme cells would hide all others.
    """
    peak = float(np.quantile(values, top)) or float(values.max())
    if peak <= 0:
        return
    share = np.clip(values / peak, 0.0, 1.0)
    axes.imshow(
        share,
        origin="lower",
        aspect="auto",
        cmap=GLOW,
        alpha=0.85 * share**0.8,
        extent=_extent(scales),
        vmin=0.0,
        vmax=1.0,
        interpolation="nearest",
    )
    bins = np.arange(len(scales.bin_centers_hz))
    if min(values.shape) > 1 and share.min() < 0.5:
        axes.contour(scales.frame_times_s, bins, share, [0.5], colors=[RED], linewidths=0.8)


def set_axes(axes: Axes, scales: Scales, *, words: bool = True, most: int = 8) -> None:
    """Give axes the extent of a spectrogram, with true Hz and seconds at the ticks."""
    bins = len(scales.bin_centers_hz)
    axes.set_xlim(scales.frame_edges_s[0], scales.frame_edges_s[-1])
    axes.set_ylim(-0.5, bins - 0.5)
    ticks = scales.hz_ticks(most)
    axes.yaxis.set_major_locator(FixedLocator([place for place, _ in ticks]))
    axes.yaxis.set_major_formatter(FixedFormatter([format_hz(hertz) for _, hertz in ticks]))
    axes.xaxis.set_major_locator(MaxNLocator(8))
    axes.tick_params(labelsize=8, colors=INK)
    if words:
        axes.set_xlabel("Time (s)", color=INK)
        axes.set_ylabel("Frequency", color=INK)


def draw_classes(
    axes: Axes, probabilities: Array, classes: tuple[str, ...], answer_id: int
) -> None:
    """Draw the most probable classes as bars, the answer in colour."""
    order = np.argsort(-probabilities, kind="stable")[:MOST_CLASSES]
    places = np.arange(len(order))[::-1]
    colours = [BLUE if index == answer_id else QUIET for index in order]
    bars = axes.barh(places, probabilities[order], color=colours, height=0.65)
    labels = [f"{p:.0%}" if p >= 0.005 else "<1%" for p in probabilities[order]]
    axes.bar_label(bars, labels, padding=3, fontsize=8, color=INK)
    axes.set_yticks(places, [shorten(classes[i], 18) for i in order])
    axes.set_xlim(0, 1.22)
    axes.set_xticks([0, 0.5, 1.0])
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xlabel("Probability", color=INK)
    make_plain(axes, grid="x")


def _extent(scales: Scales) -> tuple[float, float, float, float]:
    first_s, last_s = scales.extent_s
    return first_s, last_s, -0.5, len(scales.bin_centers_hz) - 0.5
