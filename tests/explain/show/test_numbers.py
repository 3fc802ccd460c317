"""The numbers of an explanation: places in Hz and seconds, shares, plain values."""

import json

import pytest

from xmoe.explain.reasons import find_reasons
from xmoe.explain.show.numbers import to_record


def test_the_record_is_plain_json_with_every_expert_asked(subject, specs):
    plan = subject.model.plan(specs[:1], subject.routing, k=2)
    record = to_record(find_reasons(subject, specs[0], plan=plan, span_s=(1.5, 1.7)))
    json.dumps(record, allow_nan=False)
    assert record["k"] == len(record["experts"]) == 2
    assert sum(expert["weight"] for expert in record["experts"]) == pytest.approx(1.0)
    assert record["segment_s"][0] == 1.5
    assert record["sound_ends_s"] == 1.7
    assert sum(record["gate"].values()) == pytest.approx(1.0)
    assert record["gate"]["high_band"] == 0.0
    assert len(record["promises"]) == 3
    assert set(record["sentences"]) == set(record["whys"]) == {"label", "experts", "k"}
    for why in record["whys"].values():
        assert {"target", "method", "deletion_auc", "insertion_auc", "random"} <= set(why)


def test_windows_spans_and_bands_of_an_expert_agree(subject, specs):
    plan = subject.model.plan(specs[:1], subject.routing, k=1)
    record = to_record(find_reasons(subject, specs[0], plan=plan))
    assert record["sound_ends_s"] == record["segment_s"][1]
    expert = record["experts"][0]
    assert len(expert["windows"]) == plan.spans.shape[2]
    assert expert["spans_s"][0][0] < expert["spans_s"][-1][1]
    assert 0.0 <= expert["score_share"] <= 1.0
    low, high = expert["band_hz"]
    assert 0.0 <= low < high <= 8400.0


def test_a_fixed_order_has_voices_in_its_record(closed, heard):
    spec, sound = heard
    plan, _ = closed.model.prepare(spec[None], closed.routing, sound=sound, k=1)
    record = to_record(find_reasons(closed, spec, sound=sound, plan=plan))
    json.dumps(record, allow_nan=False)
    stem, first = record["voices"]
    assert (stem["name"], first["name"]) == ("stem", "first")
    assert stem["counts"] + first["counts"] == pytest.approx(1.0)
    assert first["without"] == pytest.approx(stem["alone"], abs=1e-6)
    assert record["first_k"] == 1
    assert len(record["promises_again"]) == 4
    assert "experts" not in record["whys"]
    assert set(record["sentences"]) == {"label", "experts", "k"}
