"""Found events + true events -> precision, recall and F1.

Two rules for a match, both with the right label and each event matched at most once by a maximum
bipartite matching: *overlap*, intersection over union of at least ``MIN_OVERLAP`` (as in the
few-shot bioacoustic task of DCASE 2021, with 0.3); *onset*, starts at most ``collar_s`` apart (the
onset condition of sed_eval).

Sources: Mesaros, Heittola, Virtanen 2016, Applied Sciences 6(6) 162 (event-based F1, sed_eval);
Morfi et al. 2021, DCASE Workshop (overlap of 30 %, bipartite matching).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_bipartite_matching

Times = npt.NDArray[np.float64]
MIN_OVERLAP = 0.3
COLLAR_S = 0.5


class Span(NamedTuple):
    """A label from ``start_s`` to ``end_s``."""

    start_s: float
    end_s: float
    label: str


class EventScore(NamedTuple):
    """Counts and figures of one matching."""

    hits: int
    found: int
    there: int

    @property
    def precision(self) -> float:
        return self.hits / self.found if self.found else 0.0

    @property
    def recall(self) -> float:
        return self.hits / self.there if self.there else 0.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 0 if there is nothing found or to find."""
        total = self.found + self.there
        return 2 * self.hits / total if total else 0.0

    def as_dict(self) -> dict[str, float]:
        figures = {"precision": self.precision, "recall": self.recall, "f1": self.f1}
        return {**self._asdict(), **figures}


def score_overlap(found: Sequence[Span], truth: Sequence[Span]) -> EventScore:
    """Match events with an intersection over union of at least ``MIN_OVERLAP``."""
    return _score(found, truth, lambda ours, theirs: overlaps(ours, theirs) >= MIN_OVERLAP)


def score_onsets(
    found: Sequence[Span], truth: Sequence[Span], *, collar_s: float = COLLAR_S
) -> EventScore:
    """Match events that start within ``collar_s`` of each other."""
    return _score(found, truth, lambda ours, theirs: np.abs(ours[:, :1] - theirs[:, 0]) <= collar_s)


def overlaps(ours: Times, theirs: Times) -> Times:
    """Intersection over union [n, m] of spans [n, 2] and [m, 2] in seconds."""
    first, last = ours[:, None], theirs[None]
    shared = np.minimum(first[..., 1], last[..., 1]) - np.maximum(first[..., 0], last[..., 0])
    union = np.maximum(first[..., 1], last[..., 1]) - np.minimum(first[..., 0], last[..., 0])
    return np.asarray(np.maximum(shared, 0.0) / np.maximum(union, 1e-12))


def _score(
    found: Sequence[Span],
    truth: Sequence[Span],
    matches: Callable[[Times, Times], npt.NDArray[np.bool_]],
) -> EventScore:
    hits = 0
    for label in sorted({span.label for span in found} & {span.label for span in truth}):
        ours, theirs = (
            np.array([span[:2] for span in spans if span.label == label], np.float64)
            for spans in (found, truth)
        )
        pairs = maximum_bipartite_matching(csr_matrix(matches(ours, theirs)), perm_type="column")
        hits += int((pairs >= 0).sum())
    return EventScore(hits, len(found), len(truth))
