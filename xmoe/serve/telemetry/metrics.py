"""The router's events as Ray metrics, which Ray exports for Prometheus.

xmoe_stage_ms{stage}                       decode, frontend, plan, experts
xmoe_experts_asked                         K of each answer
xmoe_expert_calls{expert,outcome}          ok, nonfinite, dead, timeout, overloaded, error,
                                           other_run
xmoe_expert_call_ms{expert}
xmoe_block_rows                            segments in one micro-batch
xmoe_answers{degraded}                     xmoe_refusals{code}
xmoe_trial{mode,outcome}                   recordings of a shadow or canary, see deploy.trial
xmoe_incoming_quality                      0 to 1, of each recording that is measured
xmoe_incoming_quality_last                 that of the last one
xmoe_drift_psi{feature}                    distance from training, see watch.drift

Serve adds ``application``, ``deployment`` and ``replica``. ``run`` and ``weights`` (the first
digits of their hash) tell two versions apart that run side by side.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray.serve.metrics import Counter, Gauge, Histogram

from xmoe.serve.telemetry.meter import Meter

WHOSE = ("run", "weights")
LATENCY_MS = [0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000]


def with_whose(*own: str) -> Any:
    """The tag keys of a metric; Any, for Ray's annotation allows only one key."""
    return (*own, *WHOSE)


class RayMeter(Meter):
    """Passes every event to Ray, tagged with the run and the hash of its weights."""

    def __init__(self, run: str, weights_sha256: str) -> None:
        self._stage = Histogram(
            "xmoe_stage_ms",
            "Milliseconds by stage",
            boundaries=LATENCY_MS,
            tag_keys=with_whose("stage"),
        )
        self._asked = Histogram(
            "xmoe_experts_asked",
            "Mean K of an answer",
            boundaries=[0.5, 1.5, 2.5, 3.5, 4.5, 8.5],
            tag_keys=with_whose(),
        )
        self._calls = Counter(
            "xmoe_expert_calls", "Calls to experts", tag_keys=with_whose("expert", "outcome")
        )
        self._call_ms = Histogram(
            "xmoe_expert_call_ms",
            "Milliseconds of a call",
            boundaries=LATENCY_MS,
            tag_keys=with_whose("expert"),
        )
        self._rows = Histogram(
            "xmoe_block_rows",
            "Segments in one micro-batch",
            boundaries=[1, 2, 4, 8, 16, 32, 64],
            tag_keys=with_whose(),
        )
        self._answers = Counter("xmoe_answers", "Answers given", tag_keys=with_whose("degraded"))
        self._quality = Histogram(
            "xmoe_incoming_quality",
            "Quality of incoming recordings",
            boundaries=[step / 10 for step in range(1, 11)],
            tag_keys=with_whose(),
        )
        self._last_quality = Gauge(
            "xmoe_incoming_quality_last",
            "Quality of the last recording that was measured",
            tag_keys=with_whose(),
        )
        self._drift = Gauge(
            "xmoe_drift_psi",
            "Population stability index to training",
            tag_keys=with_whose("feature"),
        )
        self._refusals = Counter("xmoe_refusals", "Requests refused", tag_keys=with_whose("code"))
        self._trial = Counter(
            "xmoe_trial",
            "Recordings that a candidate was sent",
            tag_keys=with_whose("mode", "outcome"),
        )
        for metric in vars(self).values():
            metric.set_default_tags({"run": run, "weights": weights_sha256[:12]})
        super().__init__()

    def note_call(self, expert: str, outcome: str, seconds: float) -> None:
        self._calls.inc(1.0, tags={"expert": expert, "outcome": outcome})
        self._call_ms.observe(seconds * 1000.0, tags={"expert": expert})

    def note_block(self, rows: int) -> None:
        self._rows.observe(float(rows))

    def note_answer(self, *, k: float, degraded: bool, stages_s: Mapping[str, float]) -> None:
        super().note_answer(k=k, degraded=degraded, stages_s=stages_s)
        self._answers.inc(1.0, tags={"degraded": str(degraded).lower()})
        self._asked.observe(k)
        for stage, seconds in stages_s.items():
            self._stage.observe(seconds * 1000.0, tags={"stage": stage})

    def note_quality(self, quality: float) -> None:
        self._quality.observe(quality)
        self._last_quality.set(quality)

    def note_drift(self, psi: Mapping[str, float]) -> None:
        for feature, value in psi.items():
            self._drift.set(value, tags={"feature": feature})

    def note_refusal(self, code: str) -> None:
        super().note_refusal(code)
        self._refusals.inc(1.0, tags={"code": code})

    def note_trial(self, mode: str, outcome: str) -> None:
        self._trial.inc(1.0, tags={"mode": mode, "outcome": outcome})
