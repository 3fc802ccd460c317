"""What happens to an incoming recording beside its answer: measures, warnings, drift, metrics.

A recording is measured while it is being answered, and only so many a second, so that a busy server
spends its time on answers.
"""

from __future__ import annotations

import time
from typing import Any

from pydantic import ConfigDict

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
    features: tuple[FeatureDrift, ...] = ()


class Watch:
    """Watches incoming recordings; does nothing without a reference from training."""

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
        """Whether to measure the next recording, at most ``max_per_second`` times a second."""
        now = time.monotonic()
        if self.drift is None or now < self._next:
            return False
        self._next = now + 1.0 / self._settings.max_per_second
        return True

    def find_doubts(self, incoming: Incoming) -> list[str]:
        return [] if self.drift is None else self.drift.reference.find_doubts(incoming)

    def note(self, incoming: Incoming, label: str) -> None:
        """Count one recording by its answer."""
        if self.drift is None:
            return
        self.drift.note(incoming, label)
        self._meter.note_quality(incoming.quality)
        self._measured += 1
        if self._measured % REPORT_EVERY == 0:
            scores = {one.name: one.psi for one in self.drift.judge() if one.psi is not None}
            self._meter.note_drift(scores)

    def describe(self, reports: Reports) -> DriftAnswer:
        count = reports.drift
        if self.drift is None or count is None:
            return DriftAnswer(
                watching=False, reason=self._no_reference, verdict="waiting", **reports.spoken
            )
        found = self.drift.judge(count)
        return DriftAnswer(
            watching=True,
            verdict=worst(found),
            recordings=count.recordings,
            window=self._settings.window,
            at_least=self._settings.at_least,
            training_recordings=self.drift.reference.recordings,
            mean_quality=round(count.quality / count.recordings, 4) if count.recordings else None,
            features=found,
            **reports.spoken,
        )
