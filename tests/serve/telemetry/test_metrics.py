"""Events become series of the right name, tags and unit, each marked with the run."""

import pytest

from xmoe.serve.telemetry import metrics


@pytest.fixture
def told(monkeypatch):
    """Put metrics that only note what they are told in the place of Ray's."""
    events = []

    class Series:
        def __init__(self, name, words, *, tag_keys, boundaries=None):
            self.name, self.keys, self.whose = name, tag_keys, {}

        def set_default_tags(self, tags):
            self.whose = tags

        def note(self, value, tags=None):
            assert set(self.keys) == {*(tags or {}), *self.whose}
            events.append((self.name, value, tags or {}, self.whose))

        inc = observe = set = note

    for kind in ("Counter", "Gauge", "Histogram"):
        monkeypatch.setattr(metrics, kind, Series)
    return events


def test_a_call_is_counted_by_outcome_and_timed_in_milliseconds(told):
    metrics.RayMeter("exp1", "0123456789abcdef").note_call("low", "dead", 0.25)
    whose = {"run": "exp1", "weights": "0123456789ab"}
    assert told == [
        ("xmoe_expert_calls", 1.0, {"expert": "low", "outcome": "dead"}, whose),
        ("xmoe_expert_call_ms", 250.0, {"expert": "low"}, whose),
    ]


def test_an_answer_tells_k_and_each_stage(told):
    meter = metrics.RayMeter("exp1", "a" * 64)
    meter.note_answer(k=1.5, degraded=True, stages_s={"plan": 0.002, "experts": 0.03})
    assert [event[:3] for event in told] == [
        ("xmoe_answers", 1.0, {"degraded": "true"}),
        ("xmoe_experts_asked", 1.5, {}),
        ("xmoe_stage_ms", 2.0, {"stage": "plan"}),
        ("xmoe_stage_ms", 30.0, {"stage": "experts"}),
    ]
    assert meter.degraded == 1


def test_the_rest_has_a_series_each(told):
    meter = metrics.RayMeter("exp1", "a" * 64)
    meter.note_block(3)
    meter.note_quality(0.75)
    meter.note_drift({"rate": 0.4})
    meter.note_refusal("overloaded")
    meter.note_trial("canary", "failed")
    assert [event[:3] for event in told] == [
        ("xmoe_block_rows", 3.0, {}),
        ("xmoe_incoming_quality", 0.75, {}),
        ("xmoe_incoming_quality_last", 0.75, {}),
        ("xmoe_drift_psi", 0.4, {"feature": "rate"}),
        ("xmoe_refusals", 1.0, {"code": "overloaded"}),
        ("xmoe_trial", 1.0, {"mode": "canary", "outcome": "failed"}),
    ]
