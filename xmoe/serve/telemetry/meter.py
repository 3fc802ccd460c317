"""What serving measures, as events.

The router reports to a ``Meter``. This one only counts answers and refusals, for the router's own
report; ``metrics`` passes every event on to Ray, and so to Prometheus.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from xmoe.serve.telemetry.tally import Tally


class Meter:
    """Counts requests, the K of their answers and how many were degraded; ignores the rest."""

    def __init__(self) -> None:
        self.requests = Tally()
        self.asked: Counter[int] = Counter()
        self.k_total = 0.0
        self.degraded = 0

    def note_call(self, expert: str, outcome: str, seconds: float) -> None:
        """One call to an expert: ``ok``, ``nonfinite``, or the kind of its failure."""

    def note_block(self, rows: int) -> None:
        """The number of segments in one micro-batch."""

    def note_answer(self, *, k: float, degraded: bool, stages_s: Mapping[str, float]) -> None:
        """One answer: mean K, whether experts were missing, seconds by stage."""
        self.requests.note("ok", sum(stages_s.values()))
        self.asked[round(k)] += 1
        self.k_total += k
        self.degraded += degraded

    def note_quality(self, quality: float) -> None:
        """The quality, 0 to 1, of one incoming recording."""

    def note_drift(self, psi: Mapping[str, float]) -> None:
        """How far each feature of the incoming recordings is from training."""

    def note_refusal(self, code: str) -> None:
        self.requests.note(code, 0.0)

    def note_trial(self, mode: str, outcome: str) -> None:
        """One recording of a trial: ``answered``, ``failed``, ``disagreed``, ``skipped``."""
