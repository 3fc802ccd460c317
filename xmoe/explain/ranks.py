"""How alike two maps are: in the order of their cells (Spearman 1904), and in their values."""

from __future__ import annotations

from torch import Tensor


def rank(values: Tensor) -> Tensor:
    """Return the ranks [n] of a map's cells as float64; cells alike share their mean rank."""
    _, inverse, counts = values.flatten().unique(return_inverse=True, return_counts=True)
    mean_rank = counts.cumsum(0).double() - (counts - 1) / 2.0
    ranks: Tensor = mean_rank[inverse]
    return ranks


def rank_correlation(one: Tensor, other: Tensor) -> float:
    """Return the rank correlation of two maps [F, T], -1..1; 0 where one has no order."""
    return correlation(rank(one), rank(other))


def correlation(one: Tensor, other: Tensor) -> float:
    """Return the correlation of two maps' values, -1..1; 0 where one is flat."""
    left, right = (values.double() - values.double().mean() for values in (one, other))
    scale = left.norm() * right.norm()
    return float((left * right).sum() / scale) if float(scale) > 1e-6 else 0.0
