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

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

# Penalties as multiples of the mean eigenvalue of the Gram matrix.
PENALTIES: tuple[float, ...] = tuple(float(x) for x in np.logspace(-4, 2, 13))
_LEAST_SCALE = 1e-6
_LEAST_EIGENVALUE = 1e-10


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
    mean, scale = features.mean(axis=0), features.std(axis=0)
    scale = np.where(scale > _LEAST_SCALE, scale, 1.0)
    x = (features - mean) / scale / np.sqrt(features.shape[1])
    offset = targets.mean(axis=0)
    y = targets - offset
    basis, eigenvalues = _eigenbasis(x)
    projected = basis.T @ y
    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    fits = []
    for strength in PENALTIES:
        penalty = strength * float(eigenvalues.sum()) / len(x)
        shrink = eigenvalues / (eigenvalues + penalty)
        residuals = _held_out_residuals(y, basis, shrink, projected, members)
        fits.append((float(np.square(residuals).mean()), penalty, residuals))
    _, penalty, residuals = min(fits, key=lambda fit: fit[0])
    dual = basis @ (projected / (eigenvalues + penalty)[:, None])
    weights = x.T @ dual / np.sqrt(features.shape[1])
    return Ridge(mean, scale, weights, offset, penalty, targets - residuals)


def _eigenbasis(x: Floats) -> tuple[Floats, Floats]:
    """Return eigenvectors [n, r] and eigenvalues [r] of x x^T, by its smaller side."""
    if x.shape[0] <= x.shape[1]:
        eigenvalues, vectors = np.linalg.eigh(x @ x.T)
        kept = eigenvalues > _LEAST_EIGENVALUE * max(eigenvalues[-1], 1e-300)
        return vectors[:, kept], eigenvalues[kept]
    eigenvalues, vectors = np.linalg.eigh(x.T @ x)
    kept = eigenvalues > _LEAST_EIGENVALUE * max(eigenvalues[-1], 1e-300)
    eigenvalues = eigenvalues[kept]
    return x @ vectors[:, kept] / np.sqrt(eigenvalues), eigenvalues


def _held_out_residuals(
    y: Floats, basis: Floats, shrink: Floats, projected: Floats, members: list[Ints]
) -> Floats:
    """Return what is left of targets y [n, C] when the rows of each of ``members`` are left out."""
    residuals = y - basis @ (shrink[:, None] * projected)
    if len(members) == len(y):
        leverage = 1.0 / len(y) + np.square(basis) @ shrink
        return residuals / np.maximum(1.0 - leverage, _LEAST_EIGENVALUE)[:, None]
    held: Floats = np.empty_like(residuals)
    for rows in members:
        block = basis[rows]
        kernel = np.eye(len(rows)) - 1.0 / len(y) - (block * shrink) @ block.T
        held[rows] = np.linalg.solve(kernel, residuals[rows])
    return held
