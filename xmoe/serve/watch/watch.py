"""What becomes of an incoming recording beside its answer: measures, warnings, drift, metrics.

A recording is measured while it is being answered, and only so many in a second, so that a busy
server spends its time on answers.
"""

from __future__ import annotations

import time
from typing import Any

from pydantic import ConfigDict

from xmoe.base.config import Frozen
from xmoe.serve.settings import DriftSettings
from xmoe.serve.telemetry.meter import Meter
from xmoe.serve.watch.about import About
from xmoe.serve.watch.drift import Drift, FeatureDrift, Verdict, worst
from xmoe.serve.watch.fleet import Reports, Spoken
from xmoe.serve.watch.incoming import Incoming

REPORT_EVERY = 25

DRIFT_EXAMPLE: dict[str, Any] = {
    "watching": True,
    "verdict": "drifted",
    "recordings": 200,
    "window": 1000,
    "at_least": 50,
    "training_recordings": 720,
    "mean_quality": 0.41,
    "features": [
        {
            "name": "sample_rate_hz",
            "verdict": "drifted",
            "psi": 3.2,
            "by_chance": 0.07,
            "bins": ["16000", "other"],
            "training": [720, 0],
            "incoming": [120, 80],
        }
    ],
}


class FeatureAnswer(Frozen):
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


class DriftAnswer(Spoken):
    """The last recordings of all routers, ``window`` of each, against the training recordings.

    ``verdict`` is the worst of the features'; ``reason`` says why there is none.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [DRIFT_EXAMPLE]})

    watching: bool
    verdict: Verdict
    reason: str = ""
    recordings: int = 0
    window: int = 0
    at_least: int = 0
    training_recordings: int = 0
    mean_quality: float | None = None
    features: tuple[FeatureAnswer, ...] = ()


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
