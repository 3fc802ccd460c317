"""A batch of spectrograms -> every kind of evidence that an arm may feed to its router.

The kinds of ``xmoe.glance.router`` are measured by the router's own code. The others are candidates
for it, and controls that hold the same numbers without the saliency:

    where        saliency by expert: its share in the expert's band and in its best window; the peak
    bands        stem features pooled by saliency within each of four bands
    bands_plain  the same pooled without saliency: the control of ``bands``
    rivals       where the first class is told from the second: a signed map of the difference
    entropy      entropy of the stem's belief alone
    sparseness   entropies of the saliency over rows and over columns alone
    nothing      a constant: whatever reads it decides alike for every clip
"""

from __future__ import annotations

from typing import get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from xmoe.base.config import RouterEvidence
from xmoe.glance.evidence import describe_belief, describe_saliency, measure_evidence
from xmoe.glance.saliency import activation_map
from xmoe.glance.spans import score_windows
from xmoe.glance.stem import NUM_BANDS
from xmoe.mixture.moe import Glance, MoE

OWN: tuple[RouterEvidence, ...] = get_args(RouterEvidence)
KINDS = (*OWN, "where", "bands", "bands_plain", "rivals", "entropy", "sparseness", "nothing")
SMALL = 1e-9


@torch.no_grad()
def gather_kinds(model: MoE, glance: Glance, spec: Tensor) -> dict[str, Tensor]:
    """Return every kind of evidence, each [B, .], of spectrograms [B, F, T]."""
    belief = model.task.belief(glance.stem.logits)
    features, cells = glance.stem.features, glance.cells
    found = {
        kind: measure_evidence(kind, features=features, cells=cells, belief=belief, spec=spec)
        for kind in OWN
    }
    return found | {
        "where": describe_where(cells, model.bands, model.config.window_frames),
        "bands": pool_by_band(features, cells),
        "bands_plain": pool_by_band(features, torch.ones_like(cells)),
        "rivals": describe_rivals(model, glance, belief),
        "entropy": describe_belief(belief)[:, -1:],
        "sparseness": describe_saliency(cells)[:, -2:],
        "nothing": torch.zeros(len(spec), 1),
    }


def describe_where(cells: Tensor, bands: Tensor, window_frames: int) -> Tensor:
    """Return [B, 2 E + 5] of saliency cells [B, R, W] and bands [E, R].

    By expert: the share of all saliency that lies in its band, and the share of that in its best
    window. Then row and column of the peak, mean and spread of the rows, spread of the columns, all
    as fractions of the map.
    """
    total = cells.sum((1, 2)).clamp_min(SMALL)
    scores = score_windows(cells, bands, window_frames)
    in_band = scores.sum(2)
    best = scores.amax(2) / in_band.clamp_min(SMALL)
    by_row, by_column = cells.sum(2) / total[:, None], cells.sum(1) / total[:, None]
    (row, spread), (_, duration) = _moments(by_row), _moments(by_column)
    peak = torch.stack([_place(by_row.argmax(1), by_row), _place(by_column.argmax(1), by_column)])
    return torch.cat([in_band / total[:, None], best, peak.T, row, spread, duration], 1)


def _moments(share: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and spread, each [B, 1], of places 0..1 weighted by shares [B, n]."""
    places = torch.linspace(0.0, 1.0, share.shape[1])
    mean = (share * places).sum(1, keepdim=True)
    return mean, (share * (places - mean).square()).sum(1, keepdim=True).sqrt()


def _place(index: Tensor, like: Tensor) -> Tensor:
    return index.float() / max(1, like.shape[1] - 1)


def pool_by_band(features: Tensor, cells: Tensor) -> Tensor:
    """Return the stem map [B, D, R, W] pooled by cells [B, R, W] within four bands, [B, 4 D]."""
    batch, channels, rows, columns = features.shape
    shape = (batch, NUM_BANDS, rows // NUM_BANDS, columns)
    weight = cells.view(shape)
    weight = weight / weight.sum((2, 3), keepdim=True).clamp_min(SMALL)
    grouped = features.view(batch, channels, *shape[1:])
    return torch.einsum("bdnrw,bnrw->bdn", grouped, weight).flatten(1)


def describe_rivals(model: MoE, glance: Glance, belief: Tensor) -> Tensor:
    """Return [B, 2 R + 1]: by row, what speaks for the first class against the second, and against.

    It is the class activation map of the difference of both, as shares of its absolute sum, and the
    logarithm of that sum.
    """
    best = belief.topk(2, 1).indices
    first, second = (F.one_hot(best[:, i], belief.shape[1]).float() for i in (0, 1))
    signed = activation_map(model.stem, glance.stem, first - second)
    parts = torch.cat([F.relu(signed).sum(2), F.relu(-signed).sum(2)], 1)
    total = parts.sum(1, keepdim=True).clamp_min(SMALL)
    return torch.cat([parts / total, total.log()], 1)


def derange(owners: Tensor, *, generator: torch.Generator) -> Tensor:
    """Return a permutation [n] in which no row gets a row of its own owner.

    ``owners`` [n] says whose clip each row is. Raises ValueError where one owner has over half.
    """
    names, inverse = torch.unique(owners, return_inverse=True)
    most = int(torch.bincount(inverse).max())
    if 2 * most > len(owners):
        raise ValueError(f"one clip has {most} of {len(owners)} rows: they cannot be exchanged")
    mixed = torch.randperm(len(owners), generator=generator)
    place = torch.randperm(len(names), generator=generator)[inverse[mixed]]
    ordered = mixed[place.argsort(stable=True)]
    partner = torch.empty_like(ordered)
    partner[ordered] = ordered.roll(-most)
    return partner
