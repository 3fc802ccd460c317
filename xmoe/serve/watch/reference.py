"""The training recordings -> bins of each feature, and the range they span.

A number has about ten bins that hold equally many training recordings, and an empty one beyond
either end; a name has one for each that training knew, and one for all others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from xmoe.profile.clip_stats import ClipStats
from xmoe.profile.quality import clip_quality
from xmoe.serve.watch.incoming import Incoming

Counts = npt.NDArray[np.int64]

BINS = 10
SPAN = (0.001, 0.999)


@dataclass(frozen=True)
class Measure:
    """A number of a recording: ``step`` is the smallest difference that matters.

    ``step`` is in the measure's unit, or in octaves where ratios are compared.
    """

    name: str
    unit: str
    step: float
    by_ratio: bool = False

    def place(self, value: float | None) -> float:
        """A value on the scale of the bins; None, for silence, lies below everything."""
        if value is None:
            return -np.inf
        return float(np.log2(max(value, 1e-3))) if self.by_ratio else value

    def value(self, place: float) -> float:
        return float(2.0**place) if self.by_ratio else place


MEASURES = (
    Measure("quality", "", 0.02),
    Measure("snr_db", "dB", 1.0),
    Measure("rms_db", "dB", 1.0),
    Measure("fmax_eff_hz", "Hz", 1 / 12, by_ratio=True),
    Measure("clipping_rate", "", 0.001),
    Measure("duration_s", "s", 0.25, by_ratio=True),
)
WARNED = {
    "snr_db": "quality: the signal-to-noise ratio is {0:.0f} dB; that of training is {1:.0f} to "
    "{2:.0f} dB",
    "rms_db": "level: the level is {0:.0f} dB; that of training is {1:.0f} to {2:.0f} dB",
    "fmax_eff_hz": "band: the sound reaches {0:.0f} Hz; in training it reaches {1:.0f} to "
    "{2:.0f} Hz",
}


@dataclass(frozen=True)
class NumberBins:
    """Bins of a measure: ``edges`` [B - 1] rise on its scale; ``counts`` [B] of training.

    ``span`` holds the 0.1 % and 99.9 % quantiles of training, one step wider.
    """

    measure: Measure
    edges: npt.NDArray[np.float64]
    counts: Counts
    span: tuple[float, float]

    @classmethod
    def of(cls, measure: Measure, values: Sequence[float | None]) -> NumberBins:
        """Bins of about equally many training values, none narrower than a step."""
        places = np.sort([measure.place(value) for value in values])
        finite = places[np.isfinite(places)]
        low, high = (float(np.quantile(finite, at)) if len(finite) else 0.0 for at in (0.0, 1.0))
        half = measure.step / 2
        edges = [low - half]
        for decile in np.quantile(finite, np.arange(1, BINS) / BINS) if len(finite) else ():
            edge = float(decile) + half  # above the decile: values that are equal stay together
            if edge - edges[-1] >= 1.99 * half and high - edge >= half:
                edges.append(edge)
        edges.append(high + half)
        span = np.quantile(finite, SPAN) if len(finite) else np.zeros(2)
        bins = np.searchsorted(edges, places, side="right")
        return cls(
            measure,
            np.array(edges),
            np.bincount(bins, minlength=len(edges) + 1),
            (float(span[0]) - measure.step, float(span[1]) + measure.step),
        )

    def index(self, value: float | None) -> int:
        return int(np.searchsorted(self.edges, self.measure.place(value), side="right"))

    def labels(self) -> tuple[str, ...]:
        edges = [f"{self.measure.value(float(edge)):.4g}" for edge in self.edges]
        inner = [f"{low} to {high}" for low, high in pairwise(edges)]
        return (f"under {edges[0]}", *inner, f"over {edges[-1]}")


@dataclass(frozen=True)
class NameBins:
    """Bins of what has no order: one for each of ``names`` [B - 1], the last for others."""

    names: tuple[str, ...]
    counts: Counts

    @classmethod
    def of(cls, names: Sequence[str], seen: Sequence[str]) -> NameBins:
        """Bins for ``names``, counting what training has ``seen``."""
        counted = Counter(seen)
        known = [counted.pop(name, 0) for name in names]
        return cls(tuple(names), np.array([*known, sum(counted.values())], np.int64))

    def index(self, name: str) -> int:
        return self.names.index(name) if name in self.names else len(self.names)

    def labels(self) -> tuple[str, ...]:
        return (*self.names, "other")


@dataclass(frozen=True)
class Reference:
    """The training recordings: bins by feature, and how many recordings there were."""

    bins: Mapping[str, NumberBins | NameBins]
    recordings: int
    rates_hz: tuple[int, ...]

    @classmethod
    def of(cls, rows: Sequence[ClipStats], classes: Sequence[str]) -> Reference:
        """The reference from a table of clips: its train split, where it names one.

        ``rows`` must not be empty.
        """
        rows = [row for row in rows if row.split == "train"] or list(rows)
        bins: dict[str, NumberBins | NameBins] = {}
        for measure in MEASURES:
            values = [_value(row, measure.name) for row in rows]
            bins[measure.name] = NumberBins.of(measure, values)
        rates = tuple(sorted({row.sample_rate_hz for row in rows}))
        seen = [str(row.sample_rate_hz) for row in rows]
        bins["sample_rate_hz"] = NameBins.of([str(rate) for rate in rates], seen)
        labels = [label for row in rows for label in row.labels]
        bins["label"] = NameBins.of(tuple(classes), [one for one in labels if one in classes])
        return cls(bins, len(rows), rates)

    def place(self, incoming: Incoming, label: str) -> tuple[int, ...]:
        """The bin of each feature of a recording that was answered with ``label``."""
        values = {measure.name: _value(incoming, measure.name) for measure in MEASURES}
        found = []
        for name, bins in self.bins.items():
            if isinstance(bins, NameBins):
                found.append(bins.index(label if name == "label" else str(incoming.sample_rate_hz)))
            else:
                found.append(bins.index(values[name]))
        return tuple(found)

    def find_doubts(self, incoming: Incoming) -> list[str]:
        """Warnings about a recording that lies outside the training recordings."""
        if incoming.fmax_eff_hz is None:
            return []
        doubts = []
        low_hz, high_hz = self.rates_hz[0], self.rates_hz[-1]
        if not low_hz <= incoming.sample_rate_hz <= high_hz:
            spread = f"{low_hz}" if low_hz == high_hz else f"{low_hz} to {high_hz}"
            doubts.append(
                f"rate: sampled at {incoming.sample_rate_hz} Hz; the training recordings at "
                f"{spread} Hz"
            )
        for name, words in WARNED.items():
            bins, value = self.bins[name], _value(incoming, name)
            assert isinstance(bins, NumberBins)
            low, high = bins.span
            if not low <= bins.measure.place(value) <= high:
                doubts.append(words.format(value, *map(bins.measure.value, bins.span)))
        return doubts


def _value(row: ClipStats | Incoming, name: str) -> float | None:
    if name == "quality":
        return clip_quality(row)
    value: float | None = getattr(row, name)
    return value
