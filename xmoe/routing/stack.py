"""Logits of the experts that answered -> one answer, with learned weights.

A weighted sum of log-probabilities (a product of experts; for several labels of log-odds): an
expert that is unsure adds little, one that is sure and trusted decides. The weight of a missing
expert is shared among those that answered, so that answers stay about as sure as with all of them.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from xmoe.base.config import Frozen

Floats = npt.NDArray[np.float64]


class Stack(Frozen):
    """Weights of experts by name, none negative."""

    weights: dict[str, float]

    def combine(self, logits: Mapping[str, Floats]) -> Floats:
        """Logits [n, C] from those [n, C] of the experts that answered.

        An expert of weight 0 counts only where no other answered.
        """
        names = [name for name in self.weights if name in logits]
        parts = zip(self.weigh(names), names, strict=True)
        mixed: Floats = sum((own * logits[name] for own, name in parts), start=np.zeros((1, 1)))
        return mixed

    def weigh(self, names: list[str]) -> Floats:
        """Weights [E] where only the experts ``names`` answer."""
        own = np.array([self.weights[name] for name in names])
        if own.sum() <= 0.0:
            own = np.ones_like(own)
        weights: Floats = own * sum(self.weights.values()) / own.sum()
        return weights
