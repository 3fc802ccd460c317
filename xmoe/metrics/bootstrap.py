"""Weights per clip, resampled -> intervals. Clips of one group are drawn together.

By hand, because the figures of all resamples are one matrix product of weights, where scipy calls a
function for each. Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from xmoe.base.task import Array
from xmoe.metrics.figures import SMALLEST, Clips, measure

LEVEL = 0.95
WILSON_Z = 1.959964  # the normal quantile of 97.5 %
SHARES = ("accuracy", "macro_f1", "balanced_accuracy")
BLOCK_CELLS = 4_000_000  # weights [rows, clips] held at once: 32 MB


def make_resampler(
    num_clips: int, groups: Sequence[str] | None, seed: int
) -> tuple[Callable[[int], Array], int]:
    """A function that draws weights [rows, n], and the number of units it draws from."""
    if groups is not None and len(groups) != num_clips:
        raise ValueError(f"{len(groups)} groups for {num_clips} clips")
    names = np.arange(num_clips) if groups is None else np.asarray([str(g) for g in groups])
    unit = np.unique(names, return_inverse=True)[1]
    units = int(unit.max()) + 1
    rng = np.random.default_rng(seed)

    def draw(rows: int) -> Array:
        counts = rng.multinomial(units, np.full(units, 1.0 / units), size=rows)
        return counts[:, unit].astype(np.float64)

    return draw, units


def resample(clips: Clips, draw: Callable[[int], Array], num_bootstrap: int) -> dict[str, Array]:
    """Each figure for every resample, [R], in blocks that bound the memory."""
    block = max(1, BLOCK_CELLS // len(clips.right))
    sizes = [min(block, num_bootstrap - done) for done in range(0, num_bootstrap, block)]
    parts = [measure(clips, draw(size)) for size in sizes]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def find_interval(name: str, value: float, resampled: Array, units: int) -> list[float] | None:
    """[low, high]; None if there is a single unit, which says nothing of the spread."""
    low, high = (float(q) for q in np.quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]))
    if high - low < SMALLEST and name in SHARES:
        return _wilson(value, units)
    if units == 1:
        return None
    if name == "ece":
        return [max(0.0, 2 * value - high), max(0.0, 2 * value - low)]
    return [low, high]


def mean_interval(
    values: Array, groups: Sequence[str] | None = None, *, num_bootstrap: int = 1000, seed: int = 0
) -> list[float] | None:
    """The 95 % interval [low, high] of the mean of values [n]; None for a single unit."""
    draw, units = make_resampler(len(values), groups, seed)
    if units == 1:
        return None
    weights = draw(num_bootstrap)
    means = weights @ values / weights.sum(1)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return [float(low), float(high)]


def _wilson(share: float, units: int) -> list[float]:
    """Wilson's 95 % interval of a share of ``units``."""
    z2 = WILSON_Z**2
    centre = (share + z2 / (2 * units)) / (1 + z2 / units)
    half = np.sqrt(share * (1 - share) / units + z2 / (4 * units**2)) * WILSON_Z / (1 + z2 / units)
    return [max(0.0, float(centre - half)), min(1.0, float(centre + half))]
