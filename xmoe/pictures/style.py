"""What all pictures share: colours, an Agg figure, plain axes, PNG bytes.

Colours are those of Okabe and Ito 2008, which people with any colour vision can tell apart.
"""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

Shares = npt.NDArray[np.float64]

INK, QUIET = "#22313f", "#8a949e"
BLUE, ORANGE, RED = "#0072b2", "#e69f00", "#d55e00"
HEAT = "Blues"
LABEL_LENGTH = 24


class Picture(Figure):
    """A figure that a notebook shows, also where pyplot was never imported."""

    def _repr_png_(self) -> bytes:
        return to_png(self, dpi=80)


def new_figure(width: float, height: float, title: str = "") -> Figure:
    """An empty figure of that size in inches, with a title above everything."""
    figure = Picture(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    if title:
        figure.suptitle(title, color=INK, fontsize=11)
    return figure


def to_png(figure: Figure, *, dpi: int = 110) -> bytes:
    """The figure as PNG bytes; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def make_plain(axes: Axes, *, grid: str | None = "both") -> None:
    """Remove what carries no data; draw a faint grid along ``x``, ``y``, ``both`` or none."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8, colors=INK)
    axes.set_axisbelow(True)
    if grid in ("x", "y", "both"):
        axes.grid(axis=grid, color="#000000", alpha=0.08, lw=0.6)  # type: ignore[arg-type]


def write_cells(axes: Axes, share: Shares, texts: Mapping[tuple[int, int], str], size: int) -> None:
    """Write into cells of a ``HEAT`` image, dark on light cells and light on dark ones."""
    shades = np.asarray(colormaps[HEAT](share))[..., :3] @ (0.299, 0.587, 0.114)
    for (row, column), text in texts.items():
        colour = "white" if shades[row, column] < 0.5 else INK
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=size)


def shorten(label: str, length: int = LABEL_LENGTH) -> str:
    """A label of at most ``length`` characters, cut with an ellipsis."""
    return label if len(label) <= length else label[: length - 1] + "…"
