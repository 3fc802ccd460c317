"""Held-out answers -> sets of labels that hold the true one as often as asked.

Split conformal prediction: how strange the true label looked in held-out answers bounds how strange
a label in the set may look. The guarantee is for exchangeable recordings; those of new sources are
not quite that, so coverage is measured source by source, each by the answers to all others.

Source: Vovk, Gammerman and Shafer 2005, Algorithmic Learning in a Random World (split conformal);
Papadopoulos et al. 2002, ECML (inductive confidence machines).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from xmoe.base.config import Frozen

ALPHAS = (0.05, 0.1, 0.2)
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class Coverage(Frozen):
    """How sets at ``alpha`` did on sources left out.

    ``coverage`` is how often they held the true label, ``worst_tenth`` the same for the worst tenth
    of sources, ``mean_size`` their mean number of labels.
    """

    alpha: float
    coverage: float
    worst_tenth: float
    mean_size: float


class Conformal(Frozen):
    """Content of ``conformal.json``: rising ``scores``, one less the probability of the truth."""

    schema_version: int = 1
    scores: tuple[float, ...]
    measured: tuple[Coverage, ...]

    def pick(self, p: Floats, alpha: float) -> npt.NDArray[np.bool_]:
        """Mark the labels [..., C] in the set of probabilities; the likeliest always is.

        ``alpha`` is how often the truth may be missing. Raises ValueError unless 0 < alpha < 1.
        """
        if not 0.0 < alpha < 1.0:
            raise ValueError(f"alpha must lie between 0 and 1, not {alpha}")
        return pick_labels(p, limit_of(np.array(self.scores), alpha))


def limit_of(scores: Floats, alpha: float) -> float:
    """How strange a label may look; infinite where there are too few scores to tell."""
    rank = int(np.ceil((len(scores) + 1) * (1.0 - alpha)))
    return float(np.sort(scores)[rank - 1]) if rank <= len(scores) else float("inf")


def pick_labels(p: Floats, limit: float) -> npt.NDArray[np.bool_]:
    """Mark the labels [..., C] that look no stranger than a limit, and the likeliest."""
    top = p == p.max(axis=-1, keepdims=True)
    return np.asarray((1.0 - p <= limit) | top)


def fit_conformal(p: Floats, truth: Ints, units: Ints) -> Conformal:
    """Label sets from held-out probabilities [n, C] of clips whose labels are ``truth`` [n].

    ``units`` [n] are their sources.
    """
    scores = 1.0 - p[np.arange(len(p)), truth]
    measured = tuple(_cover(p, truth, scores, units, alpha) for alpha in ALPHAS)
    kept = np.round(np.sort(scores), 6)
    return Conformal(scores=tuple(map(float, kept)), measured=measured)


def _cover(p: Floats, truth: Ints, scores: Floats, units: Ints, alpha: float) -> Coverage:
    """Coverage of sets at ``alpha``, each source's by the scores of all others."""
    held = np.zeros(len(p), dtype=bool)
    sizes = np.zeros(len(p))
    for unit in np.unique(units):
        mine = units == unit
        limit = limit_of(scores[~mine], alpha) if not mine.all() else float("inf")
        sets = pick_labels(p[mine], limit)
        held[mine] = sets[np.arange(len(sets)), truth[mine]]
        sizes[mine] = sets.sum(axis=1)
    by_unit = np.sort([held[units == unit].mean() for unit in np.unique(units)])
    worst = by_unit[: max(len(by_unit) // 10, 1)]
    return Coverage(
        alpha=alpha,
        coverage=round(float(held.mean()), 4),
        worst_tenth=round(float(worst.mean()), 4),
        mean_size=round(float(sizes.mean()), 3),
    )
