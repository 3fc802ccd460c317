"""Training and validation recordings -> which are held out together, and which judge.

A held-out answer tells how an expert does on recordings from elsewhere only if nothing of their
source was fitted on. Known sources are left out one by one. Where they are not known, the
validation split is left out as one: whoever made it may have kept sources apart, and if answers to
it are worse than those to single recordings left out, it alone judges.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from xmoe.audio.dataset import Example
from xmoe.audio.sources import find_sources
from xmoe.experts.ridge import Bools, Floats, Ints
from xmoe.policy.race import mean_and_error

HARDER_SE = 2.0  # standard errors by which validation must be harder to judge alone
LEAST_VAL = 20  # clips


@dataclass(frozen=True)
class HoldOut:
    """``groups`` [n] are left out together; ``units`` [n] are sources; ``val`` [n] validation.

    ``words`` tell how sources were found. ``known`` is false where single recordings stand for
    them.
    """

    groups: Ints
    units: Ints
    val: Bools
    known: bool
    words: str


def plan_hold_out(examples: Sequence[Example]) -> HoldOut:
    """Decide which training and validation ``examples`` are left out together."""
    keys, words = find_sources(examples)
    units = np.unique(keys, return_inverse=True)[1].astype(np.int64)
    val = np.array([example.split == "val" for example in examples])
    recordings = {(e.copy_of or e.filepath, e.start_s, e.end_s) for e in examples}
    known = 1 < len(set(keys)) < len(recordings)
    groups = units.copy()
    if not known:
        groups[val] = units.max(initial=-1) + 1
        words = f"{words}; the validation split is left out as one"
    return HoldOut(groups, units, val, known, words)


def choose_judges(plan: HoldOut, right: Floats) -> tuple[Bools, str]:
    """Which rows [n] judge candidates, weights and promises, and why.

    ``right`` [n] is how right the held-out answers of one expert are.
    """
    everyone = np.ones(len(right), dtype=bool)
    if plan.known:
        return everyone, f"held out by source ({plan.words})"
    if plan.val.sum() < LEAST_VAL or plan.val.all():
        return everyone, f"held out one by one: fewer than {LEAST_VAL} validation clips could judge"
    inside, inside_se = mean_and_error(right[~plan.val], plan.units[~plan.val])
    outside, outside_se = mean_and_error(right[plan.val], plan.units[plan.val])
    gap, error = inside - outside, float(np.hypot(inside_se, outside_se))
    figures = f"{outside:.1%} right on validation, {inside:.1%} on training clips left out"
    if gap > HARDER_SE * error:
        return plan.val, f"the validation split judges: {figures}, so its sources are others"
    return everyone, f"all clips judge, left out one by one: {figures}"
