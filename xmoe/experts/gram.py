"""Features too many for memory -> ridge regression from sums over them, held out by folds.

A ridge needs no more of n rows than a few sums, the largest [D, D]; memory does not grow with n.
One set of sums is kept per fold, so the fit without a fold is the total minus its sums. Fits are
compared by their squared error on the fold left out, which the sums give too, and a second pass
over the features answers every row by the head that never saw its fold. Rows are summed in blocks,
in their order: however many processes computed the features, the weights are the same. For small
sets ``xmoe.experts.ridge`` leaves out any number of groups. n rows, D features, C targets.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from xmoe.experts.ridge import LEAST_SCALE, Floats, Head, Ints

PENALTIES: tuple[float, ...] = tuple(float(x) for x in np.logspace(-4, 1, 6))
_NOT_POSITIVE = "the sums of a ridge must come from finite features"


@dataclass(frozen=True)
class Block:
    """Consecutive rows: ``features`` [b, D], ``targets`` [b, C], each row's fold and weight [b]."""

    features: npt.NDArray[np.floating]
    targets: Floats
    folds: Ints
    weights: Floats


@dataclass(frozen=True)
class Sums:
    """Weighted sums over the rows of a fold: of 1, x [D], y [C], x x^T, x y^T and y^2."""

    count: float
    x: Tensor
    y: Tensor
    xx: Tensor
    xy: Tensor
    yy: float

    def plus(self, other: Sums, sign: float = 1.0) -> Sums:
        """Sums over both; with ``sign`` -1 over this one without the other."""
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Sums(*(one + sign * another for one, another in pairs))


@dataclass(frozen=True)
class GramFit:
    """The head of all rows, its penalty, and one head without each fold."""

    head: Head
    penalty: float
    fold_heads: tuple[Head, ...]

    def answer_held_out(self, features: npt.NDArray[np.floating], folds: Ints) -> Floats:
        """Scores [b, C] of rows [b, D], each by the head without its fold."""
        scores = np.empty((len(features), len(self.head.bias)))
        for fold in np.unique(folds):
            mine = folds == fold
            scores[mine] = self.fold_heads[fold].predict(features[mine])
        return scores


def sum_blocks(blocks: Iterable[Block], *, num_folds: int) -> list[Sums]:
    """Sums of each fold over blocks in their order."""
    folds: list[Sums | None] = [None] * num_folds
    for block in blocks:
        for fold in np.unique(block.folds):
            own = _sum_rows(block, np.flatnonzero(block.folds == fold))
            before = folds[fold]
            folds[fold] = own if before is None else before.plus(own)
    found = [one for one in folds if one is not None]
    if len(found) < num_folds:
        raise ValueError("every fold must have rows")
    return found


def fit_sums(
    folds: Sequence[Sums],
    *,
    penalties: Sequence[float] = PENALTIES,
    judged: Sequence[int] | None = None,
) -> GramFit:
    """The fit whose penalty has the least squared error over the folds left out.

    Where ``judged`` names folds, over those alone.
    """
    total = reduce(Sums.plus, folds)
    scale = _scale(total)
    strengths = [strength * _mean_eigenvalue(total, scale) for strength in penalties]
    errors = torch.zeros(len(strengths), dtype=torch.float64)
    for fold in folds if judged is None else [folds[place] for place in judged]:
        heads = _solve(total.plus(fold, -1.0), scale, strengths)
        errors += torch.stack([_squared_error(fold, *head) for head in heads])
    penalty = strengths[int(errors.argmin())]
    fold_heads = [_solve(total.plus(fold, -1.0), scale, [penalty])[0] for fold in folds]
    return GramFit(
        _as_head(_solve(total, scale, [penalty])[0]), penalty, tuple(map(_as_head, fold_heads))
    )


def _sum_rows(block: Block, rows: Ints) -> Sums:
    x = torch.from_numpy(block.features[rows]).double()
    y = torch.from_numpy(block.targets[rows])
    weight = torch.from_numpy(block.weights[rows])[:, None]
    heavy = weight * x
    return Sums(
        float(weight.sum()),
        heavy.sum(0),
        (weight * y).sum(0),
        x.T @ heavy,
        heavy.T @ y,
        float((weight * y.square()).sum()),
    )


def _scale(sums: Sums) -> Tensor:
    """What each feature is divided by [D]: its deviation times the root of D."""
    variance = sums.xx.diagonal() / sums.count - (sums.x / sums.count).square()
    deviation = variance.clamp_min(0.0).sqrt()
    width = float(len(sums.x) ** 0.5)
    return torch.where(deviation > LEAST_SCALE, deviation, 1.0) * width


def _mean_eigenvalue(sums: Sums, scale: Tensor) -> float:
    spread = sums.xx.diagonal() - sums.x.square() / sums.count
    return float((spread / scale.square()).sum() / sums.count)


def _solve(sums: Sums, scale: Tensor, penalties: Sequence[float]) -> list[tuple[Tensor, Tensor]]:
    """Weights [D, C] and bias [C] of unscaled features, for each penalty."""
    mean, offset = sums.x / sums.count, sums.y / sums.count
    gram = (sums.xx - torch.outer(sums.x, mean)) / torch.outer(scale, scale)
    right = (sums.xy - torch.outer(sums.x, offset)) / scale[:, None]
    solved = []
    for penalty in penalties:
        ridged = gram.clone()
        ridged.diagonal().add_(penalty)
        factor, info = torch.linalg.cholesky_ex(ridged)
        if int(info):
            raise ValueError(_NOT_POSITIVE)
        weights = torch.cholesky_solve(right, factor) / scale[:, None]
        solved.append((weights, offset - mean @ weights))
    return solved


def _squared_error(sums: Sums, weights: Tensor, bias: Tensor) -> Tensor:
    """Summed squared error of a head on the rows of a fold."""
    cross = (weights * sums.xy).sum() + bias @ sums.y
    square = (weights * (sums.xx @ weights)).sum() + 2.0 * (sums.x @ weights) @ bias
    return sums.yy - 2.0 * cross + square + sums.count * bias.square().sum()


def _as_head(solved: tuple[Tensor, Tensor]) -> Head:
    return Head(solved[0].numpy(), solved[1].numpy())
