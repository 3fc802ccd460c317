"""Profile -> one picture: spectrum with the effective band, durations, SNR, rates and classes."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from xmoe.audio.dataset import natural_key
from xmoe.base.units import format_hz
from xmoe.pictures.style import INK, make_plain, new_figure, shorten
from xmoe.profile.profile import Histogram, Profile
from xmoe.profile.show import format_duration

BAND, LINE, LIMIT = "#fbeecb", "#1f5f99", "#c0392b"
HZ_TICKS = (20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5)
MOST_BARS = 16
LABEL_LENGTH = 22
FLOOR_SHOWN_DB = 110.0


def render_profile(profile: Profile) -> Figure:
    figure = new_figure(11, 7.2)
    grid = figure.add_gridspec(2, 4, height_ratios=(1.35, 1.0), width_ratios=(1, 1, 0.8, 1.3))
    _draw_psd(figure.add_subplot(grid[0, :]), profile)
    _draw_histogram(
        figure.add_subplot(grid[1, 0]), profile.histograms["duration_s"], "Duration (s)"
    )
    _draw_histogram(figure.add_subplot(grid[1, 1]), profile.histograms["snr_db"], "SNR proxy (dB)")
    rates = {format_hz(rate): count for rate, count in profile.fs_unique.items()}
    _draw_counts(figure.add_subplot(grid[1, 2]), rates, "Sample rate")
    sizes = {name: own.count for name, own in profile.classes.items()}
    _draw_counts(figure.add_subplot(grid[1, 3]), sizes, "Class")
    figure.suptitle(
        f"{profile.num_clips} recordings, {format_duration(profile.total_duration_s)}, "
        f"{len(profile.classes)} classes - quality {profile.quality:.2f}, "
        f"transients {profile.transient:.2f}",
        color=INK,
        fontsize=12,
    )
    return figure


def _draw_psd(axes: Axes, profile: Profile) -> None:
    psd = profile.psd
    low, high = profile.fmin_eff_hz, profile.fmax_eff_hz
    label = f"effective band {format_hz(low)} - {format_hz(high)}"
    axes.axvspan(low, high, color=BAND, zorder=0, label=label)
    axes.fill_between(
        psd.frequency_hz, psd.p10_db, psd.p90_db, color=LINE, alpha=0.25, lw=0, label="10 - 90 %"
    )
    axes.plot(psd.frequency_hz, psd.p50_db, color=LINE, lw=1.8, label="median recording")
    for rate in profile.fs_unique:
        axes.axvline(rate / 2, color=INK, lw=0.8, ls=":")
    axes.plot([], [], color=INK, lw=0.8, ls=":", label="Nyquist")
    if profile.band_limit_hz is not None:
        label = f"codec limit, {profile.band_limited_fraction:.0%} of recordings"
        axes.axvline(profile.band_limit_hz, color=LIMIT, lw=1.2, ls="--", label=label)
    top = max(psd.p90_db, default=0.0)
    bottom = max(min(psd.p10_db, default=-FLOOR_SHOWN_DB), top - FLOOR_SHOWN_DB)
    axes.set_ylim(bottom - 3, top + 6)
    _log_hertz(axes, max(profile.fs_unique) / 2)
    axes.set_ylabel("Power density (dB re FS²/Hz)")
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=5, fontsize=8.5, frameon=False)
    make_plain(axes)


def _log_hertz(axes: Axes, nyquist_hz: float) -> None:
    axes.set_xscale("log")
    axes.set_xlim(18.0, nyquist_hz * 1.05)
    axes.xaxis.set_major_locator(FixedLocator([t for t in HZ_TICKS if t <= nyquist_hz]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: format_hz(value)))
    axes.set_xlabel("Frequency")


def _draw_histogram(axes: Axes, histogram: Histogram, name: str) -> None:
    edges = np.asarray(histogram.edges)
    axes.bar(edges[:-1], histogram.counts, np.diff(edges), align="edge", color=LINE, alpha=0.85)
    axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_xlabel(name)
    axes.set_ylabel("Recordings")
    make_plain(axes)


def _draw_counts(axes: Axes, counts: dict[str, int], name: str) -> None:
    ranked = sorted(counts.items(), key=lambda item: (-item[1], natural_key(item[0])))
    shown = ranked[:MOST_BARS]
    if len(ranked) > MOST_BARS:
        shown = [*ranked[: MOST_BARS - 1], (f"{len(ranked) - MOST_BARS + 1} more", 0)]
    places = np.arange(len(shown))[::-1]
    axes.barh(places, [count for _, count in shown], height=0.7, color=LINE, alpha=0.85)
    axes.set_yticks(places, [shorten(label, LABEL_LENGTH) for label, _ in shown])
    middle, half = (len(shown) - 1) / 2, max(len(shown), 4) / 2 + 0.1
    axes.set_ylim(middle - half, middle + half)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.set_xlabel("Recordings")
    axes.set_title(name, fontsize=10, color=INK)
    make_plain(axes)
