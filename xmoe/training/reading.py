"""Held-out answers -> whether promises read the answers alone, or what the glance saw as well.

Saliency and recording conditions tell how hard a clip is, which makes a promise better calibrated.
What routes is how much more a further expert promises, and there further evidence may be no more
than noise. So both are fitted, and what they bring at equal milliseconds on sources left out
decides; of equals the one that reads less.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from xmoe.experts.ridge import Floats, Ints
from xmoe.policy.race import mean_and_error
from xmoe.routing.promise import Promises
from xmoe.training.promise import (
    PRICES,
    SHOWN_SHARES,
    Depths,
    ask_rows,
    choose_first_most,
    cross_fit,
)

ALONE = "reads the answers so far alone"


@dataclass(frozen=True)
class Reading:
    """Promises fitted without the sources of some rows, on evidence that may be blanked.

    ``depths`` are those that they were fitted on, ``first_most`` how many the first round may ask,
    ``reason`` says what is read, and why.
    """

    depths: Depths
    folds: tuple[tuple[Ints, Promises], ...]
    first_most: int
    reason: str = ALONE

    def rights_at(self, shares: Sequence[float]) -> Floats:
        """How right each row is [S, n] at shares of the cost of all experts."""
        whole = sum(self.depths.costs_ms)
        asked = np.stack([ask_rows(self.folds, self.depths, price) for price in PRICES])
        return np.stack([_right_at(self.depths, asked, share * whole) for share in shares])


def choose_reading(depths: Depths, *, spare: slice) -> Reading:
    """The promises that read everything, where they gain by it; else without columns ``spare``.

    A gain is one of more than its standard error over sources, in the share of rows that are right,
    on the mean of a few shares of the cost.
    """
    alone = read(hide(depths, [spare]))
    if not alone.folds:
        return replace(alone, reason=f"{ALONE}: from a single source nothing else can be judged")
    everything = read(depths)
    both = [one.rights_at(SHOWN_SHARES).mean(axis=0) for one in (everything, alone)]
    gain, error = mean_and_error(both[0] - both[1], depths.units)
    told = f"{gain:+.1%} +- {error:.1%} of held-out answers right at equal cost"
    if gain > error:
        return replace(everything, reason=f"reads saliency and conditions too: they gain {told}")
    return replace(alone, reason=f"{ALONE}: saliency and conditions gain {told}")


def read(depths: Depths) -> Reading:
    """Promises on these depths as they are; no folds where there is one source."""
    folds = cross_fit(depths)
    first = choose_first_most(folds, depths) if folds else len(depths.order)
    limited = [(rows, one.model_copy(update={"first_most": first})) for rows, one in folds]
    return Reading(depths, tuple(limited), first)


def hide(depths: Depths, parts: Sequence[slice] = ()) -> Depths:
    """Depths whose evidence is the same for all rows in these columns."""
    return replace(depths, evidence=tuple(_blank(table, parts) for table in depths.evidence))


def _blank(evidence: Floats, parts: Sequence[slice]) -> Floats:
    seen = evidence.copy()
    for part in parts:
        seen[:, part] = 0.0
    return seen


def _right_at(depths: Depths, asked: Ints, spent: float) -> Floats:
    """How right each row is [n] at a mean cost, on the line between two prices.

    ``asked`` [P, n] is how many experts each row asks at each price.
    """
    costs = np.concatenate([[0.0], np.cumsum(depths.costs_ms)])[asked].mean(axis=1)
    order = np.argsort(costs, kind="stable")
    asked, costs, rows = asked[order], costs[order], np.arange(asked.shape[1])
    above = int(np.searchsorted(costs, spent))
    if above in (0, len(costs)):
        nearest: Floats = depths.right[rows, asked[min(above, len(costs) - 1)]]
        return nearest
    low, high = costs[above - 1], costs[above]
    part = (spent - low) / max(high - low, 1e-12)
    cheaper, dearer = (depths.right[rows, asked[place]] for place in (above - 1, above))
    mixed: Floats = (1.0 - part) * cheaper + part * dearer
    return mixed
