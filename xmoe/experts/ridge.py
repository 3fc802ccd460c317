"""Features and targets -> ridge regression in closed form, with held-out answers for every group.

One eigendecomposition serves every strength of the penalty, and leaving a group of rows out needs
no second fit: the residuals of the rows left out are (I - H)^-1 times their residuals in the full
fit, H the group's block of the hat matrix (Allen 1974, Technometrics 16(1), for one row). The
intercept is free and part of H: without its 1 / n the rows left out would know their own targets.
The same holds for rows that were never fitted on, such as a noisy copy of a clip: answers of the
fit without that clip's group follow from its residuals.
Departs from textbook leave-out in that features are scaled once, by all rows. For sets whose rows
do not fit into memory see ``xmoe.experts.gram``.
n rows, D features, C targets.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from xmoe.frontend.threads import one_thread

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

# Penalties as multiples of the mean eigenvalue of the Gram matrix.
PENALTIES: tuple[float, ...] = tuple(float(x) for x in np.logspace(-4, 2, 13))
LEAST_SCALE = 1e-6  # features that vary less are constant
_STEP = 3  # penalties skipped by the coarse search
_LEAST_EIGENVALUE = 1e-10  # of the largest; smaller ones are rounding
_TINY = 1e-300


@dataclass(frozen=True)
class Head:
    """Linear in unscaled features: ``weights`` [D, C] and ``bias`` [C]."""

    weights: Floats
    bias: Floats

    def predict(self, features: npt.NDArray[np.floating]) -> Floats:
        """Scores [m, C] of features [m, D]."""
        scores: Floats = features.astype(np.float64) @ self.weights + self.bias
        return scores


def hold_out(features: Floats, targets: Floats, partitions: Ints) -> Floats:
    """Held-out scores [R, n, C] of R partitions [R, n] of the rows into groups."""
    problem = RidgeProblem(features, targets)
    return np.stack([problem.leave_out(p, problem.best_penalty(p)) for p in partitions])


class RidgeProblem:
    """Centred and scaled x [n, D] and y [n, C], each row times the root of its weight.

    Kept as the eigenbasis [n, r] of x x^T, in which every penalty and every group is cheap.
    """

    def __init__(
        self, features: npt.NDArray[np.floating], targets: Floats, *, weights: Floats | None = None
    ) -> None:
        weight = torch.ones(len(features), dtype=torch.float64)
        if weights is not None:
            weight = torch.from_numpy(weights / weights.mean())
        with one_thread():
            x, y = torch.from_numpy(features).double(), torch.from_numpy(targets)
            share = weight / weight.sum()
            self.mean, self.offset = share @ x, share @ y
            x = x - self.mean
            scale = (share @ x.square()).sqrt()
            self.scale = torch.where(scale > LEAST_SCALE, scale, 1.0) * x.shape[1] ** 0.5
            self.root = weight.sqrt()
            self.x = x.div_(self.scale).mul_(self.root[:, None])
            self.targets, self.y = y, (y - self.offset) * self.root[:, None]
            self.basis, self.eigenvalues = _eigenbasis(self.x)
            self.projected = self.basis.T @ self.y

    def penalty(self, strength: float) -> float:
        """The penalty of a strength, which counts in mean eigenvalues."""
        return strength * float(self.eigenvalues.sum()) / len(self.x)

    def best_penalty(self, groups: Ints, *, judged: Bools | None = None) -> float:
        """The penalty with the least squared error of held-out rows, or of ``judged`` [n].

        Every third strength is tried, then the neighbours of the best.
        """
        rows = slice(None) if judged is None else torch.from_numpy(judged)
        errors: dict[int, float] = {}

        def best_of(places: Iterable[int]) -> int:
            for place in places:
                if place not in errors and 0 <= place < len(PENALTIES):
                    residuals = self._left_out(groups, self.penalty(PENALTIES[place]))
                    errors[place] = float(residuals[rows].square().mean())
            return min(errors, key=errors.__getitem__)

        with one_thread():
            coarse = best_of(range(0, len(PENALTIES), _STEP))
            fine = best_of(range(coarse - _STEP + 1, coarse + _STEP))
        return self.penalty(PENALTIES[fine])

    def fit(self, penalty: float) -> Head:
        with one_thread():
            dual = self.basis @ (self.projected / (self.eigenvalues + penalty)[:, None])
            weights = (self.x.T @ dual) / self.scale[:, None]
            return Head(weights.numpy(), (self.offset - self.mean @ weights).numpy())

    def leave_out(self, groups: Ints, penalty: float) -> Floats:
        """Scores [n, C] of each row by the fit without its group."""
        with one_thread():
            held: Floats = (
                self.targets - self._left_out(groups, penalty) / self.root[:, None]
            ).numpy()
        return held

    def answer_copies(
        self, copies: npt.NDArray[np.floating], owners: Ints, groups: Ints, penalty: float
    ) -> Floats:
        """Scores [m, C] of copies [m, D] by the fit without the group of their owner.

        ``owners`` [m] are rows of the fit.
        """
        scores = self.fit(penalty).predict(copies)
        with one_thread():
            residuals = self._left_out(groups, penalty)
            x = (torch.from_numpy(copies).double() - self.mean) / self.scale
            reach = x @ (self.x.T @ self.basis) / (self.eigenvalues + penalty)
            total = float(self.root.square().sum())
            for group in np.unique(groups[owners]):
                rows = torch.from_numpy(np.flatnonzero(groups == group))
                mine = np.flatnonzero(groups[owners] == group)
                hat = reach[mine] @ self.basis[rows].T + self.root[rows] / total
                scores[mine] -= (hat @ residuals[rows]).numpy()
        return scores

    def _left_out(self, groups: Ints, penalty: float) -> Tensor:
        """Residuals [n, C] of each row, times its root, with its group left out."""
        shrink = self.eigenvalues / (self.eigenvalues + penalty)
        residuals = self.y - self.basis @ (shrink[:, None] * self.projected)
        total = float(self.root.square().sum())
        names, place = np.unique(groups, return_inverse=True)
        if len(names) == len(groups):
            own = self.root.square() / total + self.basis.square() @ shrink
            return residuals / (1.0 - own).clamp_min(_LEAST_EIGENVALUE)[:, None]
        for group in range(len(names)):
            rows = torch.from_numpy(np.flatnonzero(place == group))
            block, root = self.basis[rows], self.root[rows]
            hat = torch.outer(root, root) / total + (block * shrink) @ block.T
            residuals[rows] = torch.linalg.solve(torch.eye(len(rows)) - hat, residuals[rows])
        return residuals


def _eigenbasis(x: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvectors [n, r] and eigenvalues [r] of x x^T, by its smaller side."""
    wide = x.shape[0] <= x.shape[1]
    eigenvalues, vectors = torch.linalg.eigh(x @ x.T if wide else x.T @ x)
    kept = eigenvalues > _LEAST_EIGENVALUE * eigenvalues[-1].clamp_min(_TINY)
    eigenvalues, vectors = eigenvalues[kept], vectors[:, kept]
    return (vectors if wide else x @ vectors / eigenvalues.sqrt()), eigenvalues
