"""Stem map, saliency, belief and recording conditions -> the vectors that the router reads."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from xmoe.base.config import RouterEvidence

NUM_CONDITIONS = 8
NUM_CONCENTRATIONS = 4


def measure_conditions(spec: Tensor) -> Tensor:
    """Recording conditions [B, 8] of normalised spectrograms [B, F, T].

    Third and fourth moments of all cells, share of cells near the floor and far above the mean,
    spread of the frequency profile and of the time profile, the time profile's fourth moment
    (transients) and its correlation from frame to frame (steadiness).
    """
    by_frequency, by_time, square = spec.mean(2), spec.mean(1), spec.square()
    centred = by_time - by_time.mean(1, keepdim=True)
    spread = centred.square().mean(1).clamp_min(1e-6)
    pairs = max(1, spec.shape[2] - 1)  # a single frame has no neighbour and is not steady
    steady = (centred[:, 1:] * centred[:, :-1]).sum(1) / pairs / spread
    return torch.stack(
        [
            (square * spec).mean((1, 2)),
            square.square().mean((1, 2)).clamp_max(50.0).log1p(),
            (spec < -1.5).float().mean((1, 2)),
            (spec > 2.0).float().mean((1, 2)),
            by_frequency.std(1),
            spread.sqrt(),
            (centred.pow(4).mean(1) / spread.square()).clamp_max(200.0).log1p(),
            steady,
        ],
        1,
    )


def describe_saliency(cells: Tensor) -> Tensor:
    """[B, R + 6]: saliency by row, its concentration in time, and two entropies.

    Concentration is the share of all saliency in the best 1/16, 1/8, 1/4 and 1/2 of the columns.
    """
    share = share_of_cells(cells)
    by_row, by_column = share.sum(2), share.sum(1)
    ranked = by_column.sort(1, descending=True).values.cumsum(1)
    columns = ranked.shape[1]
    kept = [max(1, round(columns / part)) - 1 for part in (16, 8, 4, 2)]
    concentration = [ranked[:, last : last + 1] for last in kept]
    entropies = [entropy_of(p) / math.log(max(2, p.shape[1])) for p in (by_row, by_column)]
    return torch.cat([by_row, *concentration, *entropies], 1)


def share_of_cells(cells: Tensor) -> Tensor:
    """Saliency [B, R, W] as shares of each clip's total."""
    return cells / cells.sum((1, 2), keepdim=True).clamp_min(1e-9)


def entropy_of(p: Tensor) -> Tensor:
    """Entropy [B, 1] in nats of distributions [B, n]."""
    return -(p * p.clamp_min(1e-9).log()).sum(1, keepdim=True)


def describe_belief(belief: Tensor) -> Tensor:
    """[B, C + 2]: the stem's class belief, its margin and its entropy."""
    top = belief.topk(2, 1).values
    return torch.cat([belief, top[:, :1] - top[:, 1:], entropy_of(belief)], 1)


def measure_evidence(
    kind: RouterEvidence, *, features: Tensor, cells: Tensor, belief: Tensor, spec: Tensor
) -> Tensor:
    """One kind of evidence [B, .] from stem map, saliency cells, belief and spec."""
    if kind == "features":
        return torch.cat([features.mean((2, 3)), features.amax((2, 3))], 1)
    if kind == "saliency":
        pooled = (features * share_of_cells(cells).unsqueeze(1)).sum((2, 3))
        return torch.cat([pooled, describe_saliency(cells)], 1)
    return describe_belief(belief) if kind == "belief" else measure_conditions(spec)
