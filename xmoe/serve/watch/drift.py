"""Incoming recordings against the training recordings: has the distribution changed?

The last ``window`` recordings are counted in the bins of training (``watch.reference``). The score
of a feature is the population stability index

    PSI = sum over bins of (q - p) ln(q / p),   p training, q incoming, half a recording added a bin

0.1 and 0.25 are the usual marks for a moderate and a large change. With few recordings PSI is large
by chance alone: without drift it is (1/n + 1/m) times a chi-square of B - 1 degrees of freedom, so
a change also has to exceed the 99.9 % quantile of that. Counts of several routers add up.

Source: Siddiqi 2006, Credit Risk Scorecards (the marks); Yurdakul and Naranjo 2020, J. Risk Model
Validation 14(4) (the distribution).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.special import chdtri

from xmoe.base.config import Frozen
from xmoe.serve.watch.incoming import Incoming
from xmoe.serve.watch.reference import Counts, Reference

Verdict = Literal["waiting", "stable", "moderate", "drifted"]

MODERATE_PSI = 0.1
DRIFTED_PSI = 0.25
CHANCE = 0.001


def population_stability(
    reference: npt.NDArray[np.float64], incoming: npt.NDArray[np.float64]
) -> float:
    """PSI of two distributions [B], each summing to 1 and nowhere 0."""
    return float(((incoming - reference) * np.log(incoming / reference)).sum())


def smooth(counts: Counts) -> npt.NDArray[np.float64]:
    """Counts [B] as shares, with half a recording added to each bin so that none is 0."""
    return np.asarray((counts + 0.5) / (counts.sum() + 0.5 * len(counts)), np.float64)


class FeatureDrift(Frozen):
    """One feature of the incoming recordings beside training, as counts in the same ``bins``.

    ``psi`` is the population stability index; ``by_chance`` what it exceeds once in a thousand
    times without any drift. Both are null until there is a recording.
    """

    name: str
    verdict: Verdict
    psi: float | None
    by_chance: float | None
    bins: tuple[str, ...]
    training: tuple[int, ...]
    incoming: tuple[int, ...]


class DriftCount(Frozen):
    """Recordings in the bins of training: number, sum of quality, counts by feature."""

    recordings: int
    quality: float
    counts: dict[str, tuple[int, ...]]

    def __add__(self, other: DriftCount) -> DriftCount:
        return DriftCount(
            recordings=self.recordings + other.recordings,
            quality=self.quality + other.quality,
            counts={
                name: tuple(map(sum, zip(bins, other.counts[name], strict=True)))
                for name, bins in self.counts.items()
            },
        )


class Drift:
    """Counts the last ``window`` recordings in the bins of training and judges them."""

    def __init__(self, reference: Reference, *, window: int, at_least: int) -> None:
        self.reference = reference
        self._at_least = at_least
        self._window = window
        self._last: deque[tuple[tuple[int, ...], float]] = deque()
        self._counts = {
            name: np.zeros(len(bins.counts), np.int64) for name, bins in reference.bins.items()
        }
        self._quality = 0.0

    @property
    def count(self) -> DriftCount:
        counts = {name: tuple(bins.tolist()) for name, bins in self._counts.items()}
        return DriftCount(recordings=len(self._last), quality=self._quality, counts=counts)

    def note(self, incoming: Incoming, label: str) -> None:
        """Count one recording by its answer; drop the one that leaves the window."""
        if len(self._last) >= self._window:
            self._add(*self._last.popleft(), -1)
        entry = (self.reference.place(incoming, label), incoming.quality)
        self._last.append(entry)
        self._add(*entry, 1)

    def _add(self, places: tuple[int, ...], quality: float, sign: int) -> None:
        self._quality += sign * quality
        for counts, place in zip(self._counts.values(), places, strict=True):
            counts[place] += sign

    def judge(self, count: DriftCount | None = None) -> tuple[FeatureDrift, ...]:
        """Score and verdict of each feature, from these counts or from those of several routers."""
        count = count or self.count
        return tuple(self._judge(name, count) for name in self.reference.bins)

    def _judge(self, name: str, count: DriftCount) -> FeatureDrift:
        bins, counts = self.reference.bins[name], np.array(count.counts[name])
        psi = chance = None
        verdict: Verdict = "waiting"
        if count.recordings:
            psi = population_stability(smooth(bins.counts), smooth(counts))
            spread = 1.0 / max(int(bins.counts.sum()), 1) + 1.0 / count.recordings
            chance = spread * float(chdtri(len(counts) - 1, CHANCE))
            if count.recordings >= self._at_least:
                verdict = weigh(psi, chance)
        return FeatureDrift(
            name=name,
            verdict=verdict,
            psi=None if psi is None else round(psi, 4),
            by_chance=None if chance is None else round(chance, 4),
            bins=bins.labels(),
            training=tuple(bins.counts.tolist()),
            incoming=count.counts[name],
        )


def worst(found: Sequence[FeatureDrift]) -> Verdict:
    order: tuple[Verdict, ...] = ("drifted", "moderate", "stable")
    seen = {one.verdict for one in found}
    return next((verdict for verdict in order if verdict in seen), "waiting")


def weigh(psi: float, by_chance: float) -> Verdict:
    """The verdict on a score, given what chance alone may reach."""
    if psi <= max(by_chance, MODERATE_PSI):
        return "stable"
    return "moderate" if psi <= DRIFTED_PSI else "drifted"
