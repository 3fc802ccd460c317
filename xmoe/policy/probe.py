"""Spectrograms -> class probabilities by a ridge on random-kernel features: seconds of CPU.

It runs the race of front ends and is the baseline beside every result: a mixture that does not beat
it has learned nothing that random kernels do not see.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from torch import Tensor

from xmoe.base.task import Task
from xmoe.experts.kernel_bank import KERNELS_PER_DILATION, KernelBank
from xmoe.experts.probabilities import fit_sharpness, to_logits, to_probabilities
from xmoe.experts.ridge import Floats, fit_ridge

MANY_CLIPS, MOST_CLIPS = 3000, 20_000


def baseline_probabilities(
    train_specs: Sequence[Tensor],
    train_targets: npt.NDArray[np.generic],
    test_specs: Sequence[Tensor],
    *,
    task: Task,
    num_classes: int,
    seed: int = 0,
) -> Floats:
    """Probabilities [n_test, C] for compressed spectrograms [F, T_i] of whole clips.

    ``train_targets`` are class indices [n], or 0/1 rows [n, C] for several labels. Penalty and
    sharpness are chosen on clips left out one by one. Beyond 3000 training clips half the kernels
    are used, beyond 20 000 a random subset of the clips.
    """
    assert len(train_specs) == len(train_targets)
    kept = list(range(len(train_specs)))
    if len(kept) > MOST_CLIPS:
        drawn = np.random.default_rng(seed).choice(kept, MOST_CLIPS, replace=False)
        kept = sorted(drawn.tolist())
    many = len(kept) > MANY_CLIPS
    bank = KernelBank(seed=seed, count=KERNELS_PER_DILATION // (2 if many else 1))
    rows = task.rows(train_targets[kept], num_classes)
    features = bank.measure_all([train_specs[i] for i in kept])
    ridge = fit_ridge(features, rows, np.arange(len(kept)))
    sharpness = fit_sharpness(ridge.held_out, rows, task)
    if not test_specs:
        return np.empty((0, num_classes))
    scores = ridge.head.predict(bank.measure_all(test_specs))
    return to_probabilities(to_logits(scores, sharpness, task), task)
