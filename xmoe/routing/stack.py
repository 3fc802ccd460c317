"""Logits of whoever answered -> one answer: weights that were learned, renewed over who is there.

A weighted sum of log-probabilities (a product of experts; for several labels of log-odds): an
expert that is unsure adds little, one that is sure and trusted decides. The weights of a missing
expert are given to those that answered, so that answers stay about as sure as with all of them.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from pydantic import Field

from xmoe.base.config import Frozen

Floats = npt.NDArray[np.float64]


class Stack(Frozen):
    """Weights of experts by name, none negative, and a gate where a clip may change them.

    ``gate`` holds for each expert one number per piece of evidence and a constant; empty without.
    """

    weights: dict[str, float]
    gate: dict[str, tuple[float, ...]] = Field(default_factory=dict)

    def combine(self, logits: Mapping[str, Floats], evidence: Floats | None = None) -> Floats:
        """Return logits [n, C] from those of the experts that answered, [n, C] each.

        ``evidence`` [n, G] moves the weights where there is a gate. An expert without weight counts
        where nobody else answered.
        """
        names = [name for name in self.weights if name in logits]
        table = self.weigh(names, evidence)
        mixed: Floats = sum(
            (table[:, [place]] * logits[name] for place, name in enumerate(names)),
            start=np.zeros((1, 1)),
        )
        return mixed

    def weigh(self, names: list[str], evidence: Floats | None = None) -> Floats:
        """Return the weights [n, E] if only the experts ``names`` answer; n is 1 without a gate."""
        own = np.array([[self.weights[name] for name in names]])
        if own.sum() <= 0.0:
            own = np.ones_like(own)
        table: Floats = own * sum(self.weights.values()) / own.sum()
        if not self.gate or evidence is None:
            return table
        return gated(table, self._gate(names), evidence)

    def _gate(self, names: list[str]) -> Floats:
        width = len(next(iter(self.gate.values())))
        return np.array([self.gate.get(name, (0.0,) * width) for name in names])


def gated(weights: Floats, gate: Floats, evidence: Floats) -> Floats:
    """Return weights [n, E] of [1, E] moved by a gate [E, G + 1] on evidence [n, G].

    What one expert gains the others lose: the sum over experts stays.
    """
    moved = weights * np.exp(np.tanh(evidence @ gate[:, :-1].T + gate[:, -1]))
    scaled: Floats = moved * weights.sum() / moved.sum(axis=1, keepdims=True)
    return scaled
