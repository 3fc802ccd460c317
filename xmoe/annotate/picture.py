"""An overview and events -> the picture of a whole recording, in strips from top to bottom."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from xmoe.annotate.events import Event
from xmoe.base.units import format_hz
from xmoe.pictures.style import INK, new_figure, shorten

Array = npt.NDArray[np.floating]
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#7f3c8d", "#8a6d3b")
OTHERS = "#555555"
WIDTH_IN, STRIP_IN, LEGEND_IN = 14.0, 1.35, 0.9
STRIP_S = 900.0
MOST_STRIPS = 12
BAND = 0.16
NARROWEST = 0.0022
MINUTES_FROM_S = 180.0


def draw_recording(
    level_db: Array,
    *,
    column_s: float,
    duration_s: float,
    bin_centers_hz: Array,
    events: Sequence[Event],
    title: str,
) -> Figure:
    """The spectrogram [F, columns] of a recording with its events framed.

    Long recordings are broken into strips of a quarter of an hour or more. A band above each strip
    shows the events in the colour of their class, none too narrow to be seen.
    """
    strips = max(1, min(MOST_STRIPS, math.ceil(duration_s / STRIP_S)))
    length_s = duration_s / strips
    figure = new_figure(WIDTH_IN, STRIP_IN * strips + LEGEND_IN + 0.8 * (strips == 1), title)
    low, high = np.percentile(level_db, (20, 99.7)) if level_db.size else (0.0, 1.0)
    colours = colours_of(events)
    rows = figure.subplots(strips, 1, squeeze=False)[:, 0]
    for index, axes in enumerate(rows):
        span = (index * length_s, (index + 1) * length_s)
        _draw_strip(axes, level_db, column_s, span, (float(low), float(high) + 1e-6))
        _set_hz(axes, bin_centers_hz)
        _draw_events(axes, events, span, colours, len(bin_centers_hz))
        _set_time(axes, duration_s)
    rows[-1].set_xlabel(
        "Time (minutes:seconds)" if duration_s > MINUTES_FROM_S else "Time (s)", color=INK
    )
    _draw_legend(figure, events, colours)
    return figure


def colours_of(events: Sequence[Event]) -> dict[str, str]:
    """A colour for each class, the commonest first; beyond eight they share grey."""
    counts = Counter(event.label for event in events)
    order = sorted(counts, key=lambda name: (-counts[name], name))
    return {name: COLOURS[i] if i < len(COLOURS) else OTHERS for i, name in enumerate(order)}


def _draw_strip(
    axes: Axes,
    level_db: Array,
    column_s: float,
    span: tuple[float, float],
    limits: tuple[float, float],
) -> None:
    first, last = math.floor(span[0] / column_s), math.ceil(span[1] / column_s)
    piece = level_db[:, first:last]
    bins = len(level_db)
    axes.set_facecolor("white")
    if piece.size:
        axes.imshow(
            piece,
            origin="lower",
            aspect="auto",
            cmap="gray_r",
            vmin=limits[0],
            vmax=limits[1],
            extent=(first * column_s, (first + piece.shape[1]) * column_s, -0.5, bins - 0.5),
            interpolation="nearest",
        )
    axes.set_xlim(*span)
    axes.set_ylim(-0.5, bins * (1 + BAND))
    axes.spines[["top", "right"]].set_visible(False)


def _draw_events(
    axes: Axes,
    events: Sequence[Event],
    span: tuple[float, float],
    colours: dict[str, str],
    bins: int,
) -> None:
    """Frame each event over the spectrogram and mark it in the band above."""
    narrowest = NARROWEST * (span[1] - span[0])
    for event in events:
        if event.end_s <= span[0] or event.start_s >= span[1]:
            continue
        width = max(event.duration_s, narrowest)
        start = event.start_s - (width - event.duration_s) / 2
        colour = colours[event.label]
        axes.add_patch(
            Rectangle((start, -0.5), width, bins, fc=colour, alpha=0.22, ec="none", lw=0)
        )
        axes.add_patch(Rectangle((start, bins * 1.02), width, bins * BAND, fc=colour, ec="none"))


def _set_hz(axes: Axes, bin_centers_hz: Array) -> None:
    places = np.linspace(0, len(bin_centers_hz) - 1, 3).round().astype(int)
    axes.yaxis.set_major_locator(FixedLocator(places.tolist()))
    axes.yaxis.set_major_formatter(
        FuncFormatter(lambda place, _: format_hz(float(bin_centers_hz[int(place)])))
    )
    axes.yaxis.set_minor_locator(NullLocator())
    axes.tick_params(labelsize=8, colors=INK)


def _set_time(axes: Axes, duration_s: float) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(10, steps=[1, 2, 3, 6, 10]))
    if duration_s > MINUTES_FROM_S:
        axes.xaxis.set_major_formatter(FuncFormatter(lambda second, _: format_clock(second)))


def format_clock(second: float) -> str:
    """A readable time of a recording: ``1:02:03``, ``2:05``."""
    whole = round(second)
    hours, minutes, seconds = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def _draw_legend(figure: Figure, events: Sequence[Event], colours: dict[str, str]) -> None:
    counts = Counter(event.label for event in events)
    shown = list(colours)[: len(COLOURS)]
    patches = [
        Patch(color=colours[name], label=f"{shorten(name)} ({counts[name]})") for name in shown
    ]
    if rest := list(colours)[len(COLOURS) :]:
        number = sum(counts[name] for name in rest)
        patches.append(Patch(color=OTHERS, label=f"{len(rest)} other classes ({number})"))
    if patches:
        figure.legend(
            handles=patches, loc="outside lower center", ncols=5, fontsize=9, frameon=False
        )
