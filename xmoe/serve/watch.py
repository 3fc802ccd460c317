"""What becomes of an incoming recording beside its answer: measures, warnings, drift, metrics.

A recording is measured while it is being answered, and only so many in a second, so that a busy
server spends its time on answers.
"""

from __future__ import annotations

import time

from xmoe.serve.about import About
from xmoe.serve.drift import Drift, FeatureDrift, worst
from xmoe.serve.fleet import Reports
from xmoe.serve.incoming import Incoming
from xmoe.serve.meter import Meter
from xmoe.serve.schemas import DriftAnswer, FeatureAnswer
from xmoe.serve.settings import DriftSettings

REPORT_EVERY = 25


class Watch:
    """Watches the recordings that come in; without a reference from training it does nothing."""

    def __init__(self, about: About, settings: DriftSettings, meter: Meter) -> None:
        self._settings = settings
        self._meter = meter
        self._no_reference = about.no_reference
        self._next = 0.0
        self._measured = 0
        self.drift = None
        if about.reference is not None:
            self.drift = Drift(about.reference, window=settings.window, at_least=settings.at_least)

    def has_time(self) -> bool:
        """Whether the next recording is to be measured; True at most so often in a second."""
        now = time.monotonic()
        if self.drift is None or now < self._next:
            return False
        self._next = now + 1.0 / self._settings.max_per_second
        return True

    def find_doubts(self, heard: Incoming) -> list[str]:
        """Return warnings about a recording that lies outside the training recordings."""
        return [] if self.drift is None else self.drift.reference.find_doubts(heard)

    def note(self, heard: Incoming, label: str) -> None:
        """Count one recording and what it was answered with."""
        if self.drift is None:
            return
        self.drift.note(heard, label)
        self._meter.note_quality(heard.quality)
        self._measured += 1
        if self._measured % REPORT_EVERY == 0:
            scores = {one.name: one.psi for one in self.drift.judge() if one.psi is not None}
            self._meter.note_drift(scores)

    def describe(self, reports: Reports) -> DriftAnswer:
        """Return scores, verdicts and histograms of what all routers heard last."""
        count = reports.drift
        if self.drift is None or count is None:
            return DriftAnswer(
                watching=False, reason=self._no_reference, verdict="waiting", **reports.spoken
            )
        found = self.drift.judge(count)
        heard = count.recordings
        return DriftAnswer(
            watching=True,
            verdict=worst(found),
            recordings=heard,
            window=self._settings.window,
            at_least=self._settings.at_least,
            training_recordings=self.drift.reference.recordings,
            mean_quality=round(count.quality / heard, 4) if heard else None,
            features=tuple(_to_answer(one) for one in found),
            **reports.spoken,
        )


def _to_answer(found: FeatureDrift) -> FeatureAnswer:
    def shorten(value: float | None) -> float | None:
        return None if value is None else round(value, 4)

    return FeatureAnswer(
        name=found.name,
        verdict=found.verdict,
        psi=shorten(found.psi),
        by_chance=shorten(found.by_chance),
        bins=found.bins,
        training=found.training,
        incoming=found.incoming,
    )
