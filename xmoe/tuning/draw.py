"""Trials -> accuracy against cost, with the front and the chosen one marked."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, PercentFormatter, StrMethodFormatter

from xmoe.pictures.style import BLUE, GREEN, INK, ORANGE, QUIET, RED, make_plain, new_figure
from xmoe.tuning.pareto import Cost, TuneResult, find_front

COLOURS = {"logmel": BLUE, "pcen": ORANGE, "stft": GREEN, "cqt": RED, "cwt": INK}
AXIS = {
    "mmac": "Mean cost of an answer (million multiply-accumulates per segment)",
    "latency_ms": "Time of one segment (ms, one thread)",
}
TOP, CHOSEN = 1.02, "chosen, with one standard error"


def draw_trials(
    results: Sequence[TuneResult],
    chosen: TuneResult,
    by: Cost = "mmac",
    *,
    most: float | None = None,
) -> Figure:
    """The front with its trial numbers, trials stopped early faint, and the budget ``most``.

    Raises ValueError if there are no trials.
    """
    if not results:
        raise ValueError("no trials to draw")
    figure = new_figure(8.4, 4.4, f"{len(results)} trials, accuracy on validation against cost")
    axes = figure.subplots()
    for name in dict.fromkeys(one.candidate.frontend for one in results):
        for finished in (True, False):
            rows = [one for one in results if one.candidate.frontend == name]
            _draw_points(axes, [one for one in rows if one.finished is finished], by)
    _draw_front(axes, find_front(results, by), by)
    _draw_chosen(axes, chosen, by)
    if most is not None:
        axes.axvline(most, color=RED, lw=1.0, ls="--", label="budget")
    axes.set_xlabel(AXIS[by], color=INK, fontsize=9)
    axes.set_ylabel("Accuracy", color=INK, fontsize=9)
    axes.set_ylim(top=min(axes.get_ylim()[1], TOP))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.5)))
    figure.legend(fontsize=7, frameon=False, loc="outside right upper")
    make_plain(axes)
    axes.tick_params(which="minor", labelsize=7, colors=INK)
    return figure


def _draw_points(axes: Axes, rows: Sequence[TuneResult], by: Cost) -> None:
    """Draw trials of one front end, either all finished or all stopped early."""
    if not rows:
        return
    name, finished = rows[0].candidate.frontend, rows[0].finished
    axes.scatter(
        [one.cost(by) for one in rows],
        [one.accuracy for one in rows],
        s=34 if finished else 16,
        color=COLOURS[name],
        alpha=0.9 if finished else 0.35,
        label=name if finished else f"{name}, stopped early",
        zorder=3,
    )


def _draw_front(axes: Axes, front: Sequence[TuneResult], by: Cost) -> None:
    axes.step(
        [one.cost(by) for one in front],
        [one.accuracy for one in front],
        where="post",
        color=QUIET,
        lw=1.2,
        label="nothing beats these",
    )
    for one in front:
        label, place = str(one.number), (one.cost(by), one.accuracy)
        axes.annotate(label, place, (5, -11), textcoords="offset points", fontsize=7, color=INK)


def _draw_chosen(axes: Axes, chosen: TuneResult, by: Cost) -> None:
    at = (chosen.cost(by), chosen.accuracy, chosen.standard_error)
    axes.errorbar(
        *at, fmt="o", ms=12, mfc="none", mec=INK, ecolor=INK, lw=1.0, zorder=4, label=CHOSEN
    )
