"""A router counts its answers and refusals, and nothing else."""

import pytest

from xmoe.serve.telemetry.meter import Meter


def test_answers_are_counted_by_k_and_refusals_by_code():
    meter = Meter()
    for k, degraded in ((0.0, False), (1.6, True), (2.0, False)):
        meter.note_answer(k=k, degraded=degraded, stages_s={"decode": 0.001, "plan": 0.003})
    meter.note_refusal("overloaded")
    assert (dict(meter.asked), meter.k_total, meter.degraded) == ({0: 1, 2: 2}, 3.6, 1)
    count = meter.requests.count
    assert (count.calls, count.failures) == (4, {"overloaded": 1})
    assert count.recent_ms == pytest.approx((4.0, 4.0, 4.0))


def test_what_only_metrics_want_is_dropped():
    meter = Meter()
    meter.note_call("low", "ok", 0.01)
    meter.note_block(3)
    meter.note_quality(0.5)
    meter.note_drift({"rate": 0.1})
    meter.note_trial("shadow", "answered")
    assert meter.requests.count.calls == 0
