"""Spectrograms -> class probabilities by a ridge on random-kernel features: seconds of CPU.

The race of front ends is run with it, and it is the baseline beside every result: a mixture that
does not beat it has learned nothing that random kernels do not see.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.special import expit, log_softmax, softmax
from torch import Tensor

from xmoe.base.config import TaskName
from xmoe.policy.kernels import KERNELS_PER_DILATION, KernelBank
from xmoe.policy.ridge import Floats, fit_ridge

MANY_CLIPS, MOST_CLIPS = 3000, 20_000
SHARPNESSES: tuple[float, ...] = tuple(float(x) for x in np.logspace(-0.5, 2.5, 31))


def baseline_probabilities(
    train_specs: Sequence[Tensor],
    train_targets: npt.NDArray[np.generic],
    test_specs: Sequence[Tensor],
    *,
    task: TaskName,
    num_classes: int,
    seed: int = 0,
) -> Floats:
    """Return probabilities [n_test, C] for compressed spectrograms [F, T_i] of whole clips.

    ``train_targets`` are class indices [n], or 0/1 rows [n, C] for several labels. Penalty and
    sharpness are chosen on clips left out one by one. Beyond 3000 training clips half the kernels
    are used, beyond 20 000 a random part of the clips.
    """
    assert len(train_specs) == len(train_targets)
    kept = list(range(len(train_specs)))
    if len(kept) > MOST_CLIPS:
        drawn = np.random.default_rng(seed).choice(kept, MOST_CLIPS, replace=False)
        kept = sorted(drawn.tolist())
    many = len(kept) > MANY_CLIPS
    bank = KernelBank(seed=seed, count=KERNELS_PER_DILATION // (2 if many else 1))
    rows = as_rows(train_targets[kept], task=task, num_classes=num_classes)
    features = bank.measure_all([train_specs[i] for i in kept])
    ridge = fit_ridge(features, rows, np.arange(len(kept)))
    sharpness = fit_sharpness(ridge.held_out, rows, task=task)
    if not test_specs:
        return np.empty((0, num_classes))
    return to_probabilities(ridge.predict(bank.measure_all(test_specs)), sharpness, task=task)


def as_rows(targets: npt.NDArray[np.generic], *, task: TaskName, num_classes: int) -> Floats:
    """Return 0/1 rows [n, C] of class indices [n], or of rows as they are."""
    if task == "multi_label":
        return targets.astype(np.float64)
    return np.eye(num_classes)[targets.astype(np.int64)]


def fit_sharpness(held_out: Floats, rows: Floats, *, task: TaskName) -> float:
    """Return the factor on held-out scores [n, C] with the least log loss against 0/1 rows."""
    losses = []
    for sharpness in SHARPNESSES:
        if task == "multi_label":
            margin = sharpness * (held_out - 0.5)
            loss = np.logaddexp(0.0, margin) - rows * margin
        else:
            loss = -rows * log_softmax(sharpness * held_out, axis=1)
        losses.append(float(loss.sum()))
    return SHARPNESSES[int(np.argmin(losses))]


def to_probabilities(scores: Floats, sharpness: float, *, task: TaskName) -> Floats:
    """Return probabilities of ridge scores [n, C], whose targets were 0 and 1."""
    if task == "multi_label":
        return np.asarray(expit(sharpness * (scores - 0.5)))
    return np.asarray(softmax(sharpness * scores, axis=1))
