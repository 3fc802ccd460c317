"""Features and targets -> ridge regression in closed form, with held-out answers for every group.

One eigendecomposition serves every strength of the penalty, and leaving a group of rows out needs
no second fit: the residuals of the rows left out are (I - H)^-1 times their residuals in the full
fit, H the group's block of the hat matrix (Allen 1974, Technometrics 16(1), for one row). The
intercept is free and part of H: without its 1 / n the rows left out would know their own targets.
Departs from textbook leave-out in that features are scaled once, by all rows.
n rows, D features, C targets.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from xmoe.frontend.threads import one_thread

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

# Penalties as multiples of the mean eigenvalue of the Gram matrix.
PENALTIES: tuple[float, ...] = tuple(float(x) for x in np.logspace(-4, 2, 13))
_LEAST_SCALE = 1e-6
_LEAST_EIGENVALUE = 1e-10
_TINY = 1e-300


@dataclass(frozen=True)
class Ridge:
    """A fitted ridge: ``weights`` [D, C] for features shifted by ``mean`` and over ``scale`` [D].

    ``held_out`` [n, C] are the scores of each training row when its group was left out.
    """

    mean: Floats
    scale: Floats
    weights: Floats
    offset: Floats
    penalty: float
    held_out: Floats

    def predict(self, features: Floats) -> Floats:
        """Return scores [m, C] of features [m, D]."""
        scores: Floats = (features - self.mean) / self.scale @ self.weights + self.offset
        return scores


def fit_ridge(features: Floats, targets: Floats, groups: Ints) -> Ridge:
    """Fit targets [n, C] from features [n, D]; the penalty has the least held-out squared error.

    ``groups`` [n] are integers; rows of a group are left out together.
    """
    with one_thread():
        problem = _Problem(features, targets)
        penalty, residuals = problem.leave_out(groups)
        return Ridge(
            mean=problem.mean.numpy(),
            scale=problem.scale.numpy(),
            weights=problem.weights(penalty).numpy(),
            offset=problem.offset.numpy(),
            penalty=penalty,
            held_out=targets - residuals.numpy(),
        )


def hold_out(features: Floats, targets: Floats, partitions: Ints) -> Floats:
    """Return the held-out scores [R, n, C] of R partitions [R, n] of the rows into groups."""
    with one_thread():
        problem = _Problem(features, targets)
        return np.stack([targets - problem.leave_out(part)[1].numpy() for part in partitions])


class _Problem:
    """Centred and scaled x [n, D] and y [n, C] in the eigenbasis [n, r] of x x^T."""

    def __init__(self, features: Floats, targets: Floats) -> None:
        x, y = torch.from_numpy(features), torch.from_numpy(targets)
        self.mean, scale = x.mean(dim=0), x.std(dim=0, correction=0)
        self.scale = torch.where(scale > _LEAST_SCALE, scale, 1.0) * x.shape[1] ** 0.5
        self.offset = y.mean(dim=0)
        self.x, self.y = (x - self.mean) / self.scale, y - self.offset
        self.basis, self.eigenvalues = _eigenbasis(self.x)
        self.projected = self.basis.T @ self.y

    def weights(self, penalty: float) -> Tensor:
        """Return the weights [D, C]."""
        dual = self.basis @ (self.projected / (self.eigenvalues + penalty)[:, None])
        weights: Tensor = self.x.T @ dual
        return weights

    def leave_out(self, groups: Ints) -> tuple[float, Tensor]:
        """Return the best penalty, and the residuals [n, C] of rows whose group was left out."""
        members = [torch.from_numpy(np.flatnonzero(groups == one)) for one in np.unique(groups)]
        fits = []
        for strength in PENALTIES:
            penalty = strength * float(self.eigenvalues.sum()) / len(self.x)
            shrink = self.eigenvalues / (self.eigenvalues + penalty)
            fitted = self.basis @ (shrink[:, None] * self.projected)
            residuals = _left_out(self.y - fitted, self.basis, shrink, members)
            fits.append((float(residuals.square().mean()), penalty, residuals))
        _, penalty, residuals = min(fits, key=lambda fit: fit[0])
        return penalty, residuals


def _eigenbasis(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return eigenvectors [n, r] and eigenvalues [r] of x x^T, by its smaller side."""
    wide = x.shape[0] <= x.shape[1]
    eigenvalues, vectors = torch.linalg.eigh(x @ x.T if wide else x.T @ x)
    kept = eigenvalues > _LEAST_EIGENVALUE * eigenvalues[-1].clamp_min(_TINY)
    eigenvalues, vectors = eigenvalues[kept], vectors[:, kept]
    return (vectors if wide else x @ vectors / eigenvalues.sqrt()), eigenvalues


def _left_out(residuals: Tensor, basis: Tensor, shrink: Tensor, members: list[Tensor]) -> Tensor:
    """Turn residuals [n, C] of the full fit into those with each of ``members`` left out."""
    count = len(residuals)
    if len(members) == count:
        leverage = 1.0 / count + basis.square() @ shrink
        return residuals / (1.0 - leverage).clamp_min(_LEAST_EIGENVALUE)[:, None]
    held = torch.empty_like(residuals)
    for rows in members:
        block = basis[rows]
        hat = 1.0 / count + (block * shrink) @ block.T
        identity = torch.eye(len(rows), dtype=hat.dtype)
        held[rows] = torch.linalg.solve(identity - hat, residuals[rows])
    return held
