"""Features of one candidate -> its head, its sharpness, and its held-out answers.

Small sets are solved with all rows in memory and any number of groups left out; larger ones from
sums over blocks, with whole groups gathered in five folds. Either way the order in which workers
computed the features changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from xmoe.base.task import Task
from xmoe.experts.gram import Block, GramFit, fit_sums, sum_blocks
from xmoe.experts.head import Scaling
from xmoe.experts.kernels import Floats32
from xmoe.experts.probabilities import balanced_weights, fit_sharpness, to_logits
from xmoe.experts.ridge import LEAST_SCALE, Bools, Floats, Head, Ints, RidgeProblem
from xmoe.training.promise import fold_units

MOST_IN_MEMORY = 3000  # rows; the eigendecomposition grows with their cube
# Of 1 and 0.5 each, for two copies of a row, the better on held-out answers.
COPY_WEIGHT = 0.5
NO_ROWS: Ints = np.empty(0, np.int64)


@dataclass(frozen=True)
class Targets:
    """What heads are fitted to: ``rows`` [n, C] of 0 and 1, ``groups`` [n] left out together.

    ``judges`` [n] are the rows whose held-out answers choose penalty and sharpness. ``shares`` [n]
    are the rows' weights, 1 without: rows of a long recording count less. ``balanced`` makes every
    class count the same. ``copies`` [m] are rows of which heads are also fitted on copies at other
    speeds; the features of these follow those of the n rows.
    """

    rows: Floats
    groups: Ints
    judges: Bools
    task: Task
    shares: Floats | None = None
    balanced: bool = False
    copies: Ints = field(default_factory=lambda: NO_ROWS)

    @property
    def weights(self) -> Floats:
        """How much each row counts [n]."""
        shares = np.ones(len(self.rows)) if self.shares is None else self.shares
        return balanced_weights(self.rows) * shares if self.balanced else shares

    def with_copies(self) -> Targets:
        """The rows and their copies [n + m], which judge nothing and count less."""
        if not len(self.copies):
            return self
        count = len(self.rows)
        every = self.pick(np.concatenate([np.arange(count), self.copies]))
        shares = np.ones(len(every.rows)) if every.shares is None else every.shares
        shares[count:] *= COPY_WEIGHT
        every.judges[count:] = False
        return replace(every, shares=shares)

    def pick(self, kept: Ints) -> Targets:
        shares = None if self.shares is None else self.shares[kept]
        return Targets(
            self.rows[kept],
            self.groups[kept],
            self.judges[kept],
            self.task,
            shares=shares,
            balanced=self.balanced,
        )


@dataclass(frozen=True)
class HeadFit:
    """A head fitted to ``targets``, its penalty and sharpness, and ``held_out`` logits [n, C].

    ``scaling`` is what it reads features through, if anything.
    """

    head: Head
    penalty: float
    sharpness: float
    held_out: Floats
    targets: Targets
    problem: RidgeProblem | None = None
    by_fold: GramFit | None = None
    scaling: Scaling | None = None

    def answer(self, features: Floats32) -> Floats:
        """Logits [m, C] of features [m, D] of clips it was not fitted on."""
        scores = self.head.predict(self._scale(features))
        return to_logits(scores, self.sharpness, self.targets.task)

    def _scale(self, features: Floats32) -> Floats32:
        return features if self.scaling is None else self.scaling.apply_rows(features)

    def answer_copies(self, copies: Floats32, owners: Ints) -> Floats:
        """Logits [m, C] of copies [m, D] of rows ``owners`` [m], each without its group."""
        copies = self._scale(copies)
        if self.by_fold is not None:
            scores = self.by_fold.answer_held_out(copies, gather_folds(self.targets)[owners])
        else:
            assert self.problem is not None
            groups = self.targets.with_copies().groups
            scores = self.problem.answer_copies(copies, owners, groups, self.penalty)
        return to_logits(scores, self.sharpness, self.targets.task)

    def sharp_head(self) -> tuple[Tensor, Tensor]:
        """Weights [D, C] and bias [C] that include the sharpness: features -> logits."""
        middle = 0.0 if self.targets.task.exclusive else 0.5
        weight = torch.from_numpy(self.sharpness * self.head.weights).float()
        bias = torch.from_numpy(self.sharpness * (self.head.bias - middle)).float()
        return weight, bias


def fit_scaled(read: Callable[[], Iterator[Floats32]], targets: Targets) -> HeadFit:
    """As ``fit_either``, on features that are scaled, limited and damped."""
    if len(targets.rows) <= MOST_IN_MEMORY:
        table = np.concatenate(list(read()))
        scaling = measure_scaling([table], len(targets.rows))
        return replace(fit_head(scaling.apply_rows(table), targets), scaling=scaling)
    scaling = measure_scaling(read(), len(targets.rows))
    fit = fit_head_from_blocks(lambda: map(scaling.apply_rows, read()), targets)
    return replace(fit, scaling=scaling)


def measure_scaling(blocks: Iterable[Floats32], count: int) -> Scaling:
    """Mean and deviation of the first ``count`` rows of blocks [b, D]; copies come after these."""
    sums, squares, left = 0.0, 0.0, count
    for block in blocks:
        rows = block[:left].astype(np.float64)
        left -= len(rows)
        sums, squares = sums + rows.sum(0), squares + np.square(rows).sum(0)
    mean = sums / count
    deviation = np.sqrt(np.maximum(squares / count - np.square(mean), 0.0))
    deviation = np.where(deviation > LEAST_SCALE, deviation, 1.0)
    return Scaling(torch.from_numpy(mean).float(), torch.from_numpy(deviation).float())


def fit_either(read: Callable[[], Iterator[Floats32]], targets: Targets) -> HeadFit:
    """Fit a head on blocks [b, D] of features: all in memory where rows are few, else summed."""
    if len(targets.rows) <= MOST_IN_MEMORY:
        return fit_head(np.concatenate(list(read())), targets)
    return fit_head_from_blocks(read, targets)


def fit_head(features: Floats32, targets: Targets) -> HeadFit:
    """Fit a head on features [n + m, D] that fit into memory."""
    every = targets.with_copies()
    problem = RidgeProblem(features, every.rows, weights=every.weights)
    penalty = problem.best_penalty(every.groups, judged=every.judges)
    held = problem.leave_out(every.groups, penalty)[: len(targets.rows)]
    sharpness = fit_sharpness(held[targets.judges], targets.rows[targets.judges], targets.task)
    logits = to_logits(held, sharpness, targets.task)
    return HeadFit(problem.fit(penalty), penalty, sharpness, logits, targets, problem)


def fit_head_from_blocks(read: Callable[[], Iterator[Floats32]], targets: Targets) -> HeadFit:
    """Fit a head on blocks [b, D] of features; ``read`` is called twice, one block is held."""
    every, folds = targets.with_copies(), gather_folds(targets)
    judged = np.unique(folds[targets.judges]).tolist()
    folds = np.concatenate([folds, folds[targets.copies]])
    sums = sum_blocks(_as_blocks(read(), every, folds), num_folds=int(folds.max()) + 1)
    fit = fit_sums(sums, judged=judged)
    blocks = _as_blocks(read(), every, folds)
    answers = [fit.answer_held_out(block.features, block.folds) for block in blocks]
    held = np.concatenate(answers)[: len(targets.rows)]
    sharpness = fit_sharpness(held[targets.judges], targets.rows[targets.judges], targets.task)
    logits = to_logits(held, sharpness, targets.task)
    return HeadFit(fit.head, fit.penalty, sharpness, logits, targets, by_fold=fit)


def gather_folds(targets: Targets) -> Ints:
    """A fold [n] for each row: whole groups together, the judges' apart from the others'."""
    if targets.judges.all():
        return fold_units(targets.groups)
    folds = np.zeros(len(targets.rows), dtype=np.int64)
    folds[~targets.judges] = 1 + fold_units(targets.groups[~targets.judges])
    return folds


def _as_blocks(source: Iterable[Floats32], targets: Targets, folds: Ints) -> Iterator[Block]:
    first, weights = 0, targets.weights
    for features in source:
        rows = slice(first, first + len(features))
        yield Block(features, targets.rows[rows], folds[rows], weights[rows])
        first += len(features)
