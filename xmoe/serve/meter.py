"""What serving measures, as events; where they go is somebody else's business.

The router reports to a ``Meter``. This one forgets everything; ``xmoe.serve.metrics`` hands the
same events to Ray, from where Prometheus reads them.
"""

from __future__ import annotations

from collections.abc import Mapping


class Meter:
    """Takes events and forgets them."""

    def note_call(self, expert: str, outcome: str, seconds: float) -> None:
        """Take one call to an expert: ``ok``, ``nonfinite``, or the kind of its failure."""

    def note_block(self, rows: int) -> None:
        """Take the number of segments in one micro-batch."""

    def note_answer(self, *, k: float, degraded: bool, stages_s: Mapping[str, float]) -> None:
        """Take one answer: mean K, whether experts were missing, seconds by stage."""

    def note_quality(self, quality: float) -> None:
        """Take the quality, 0 to 1, of one incoming recording."""

    def note_drift(self, psi: Mapping[str, float]) -> None:
        """Take how far each feature of the incoming recordings is from training."""

    def note_refusal(self, code: str) -> None:
        """Take one refused request and its code."""

    def note_trial(self, mode: str, outcome: str) -> None:
        """Take one recording of a trial: ``answered``, ``failed``, ``disagreed``, ``skipped``."""
