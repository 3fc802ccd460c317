"""How alike two maps are in the order of their cells, with or without what a third explains.

Source: Spearman 1904; partial correlation of ranks: Kendall 1942.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def rank(values: Tensor) -> Tensor:
    """Return the ranks [n] of a map's cells as float64; cells alike share their mean rank."""
    _, inverse, counts = values.flatten().unique(return_inverse=True, return_counts=True)
    mean_rank = counts.cumsum(0).double() - (counts - 1) / 2.0
    ranks: Tensor = mean_rank[inverse]
    return ranks


def rank_correlation(one: Tensor, other: Tensor, given: Sequence[Tensor] = ()) -> float:
    """Return the rank correlation of two maps [F, T], -1..1; 0 where one has no order.

    What the ranks of the maps in ``given`` explain linearly is taken out of both first.
    """
    base = torch.stack([torch.ones_like(rank(one)), *(rank(values) for values in given)], 1)
    left, right = (_residual(rank(values), base) for values in (one, other))
    scale = left.norm() * right.norm()
    return float(left @ right / scale) if float(scale) > 1e-6 else 0.0


def _residual(values: Tensor, base: Tensor) -> Tensor:
    """Return what least squares on the columns of ``base`` [n, m] leaves of values [n]."""
    fitted: Tensor = base @ torch.linalg.lstsq(base, values.unsqueeze(1), driver="gelsd").solution
    return values - fitted.squeeze(1)
