"""Arrays for a page: what is drawn is what was measured, within bounds, at its place."""

import base64
import json

import numpy as np
import pytest
import torch

from xmoe.explain.reasons import find_reasons
from xmoe.explain.scales import scales_of
from xmoe.explain.show.arrays import pack, pack_arrays, pack_overview, shrink


def unpack(record):
    levels = np.frombuffer(base64.b64decode(record["data"]), np.uint8)
    shares = levels.reshape(record["bins"], record["frames"]) / 255.0
    return record["low"] + shares * (record["high"] - record["low"])


def test_arrays_hold_the_spectrogram_and_the_maps(subject, specs):
    plan = subject.model.plan(specs[:1], subject.routing, k=2)
    reasons = find_reasons(subject, specs[0], plan=plan, span_s=(2.0, 2.4))
    record = pack_arrays(reasons)
    json.dumps(record, allow_nan=False)
    spec = reasons.spec.clip(-1.5, 4.0)
    assert unpack(record["spectrogram"]) == pytest.approx(spec, abs=0.013)
    saliency = reasons.maps["saliency"]
    assert unpack(record["maps"]["saliency"]) == pytest.approx(saliency / saliency.max(), abs=0.003)
    names = [name for name, _, _ in reasons.chosen()]
    assert list(record["expert_maps"]) == list(record["bands"]) == names
    assert len(record["window_edges_s"]) == plan.num_windows + 1
    assert {len(scores) for scores in record["window_scores"].values()} == {plan.num_windows}


def test_places_are_heights_and_seconds(subject, specs):
    plan = subject.model.plan(specs[:1], subject.routing, k=2)
    record = pack_arrays(find_reasons(subject, specs[0], plan=plan, span_s=(2.0, 2.4)))
    assert record["extent_s"] == pytest.approx([1.995, 2.405])
    assert record["bins_hz"] == pytest.approx(subject.frontend.bin_centers_hz.tolist(), abs=0.01)
    heights = [place for place, _ in record["ticks_hz"]]
    assert heights == sorted(heights)
    assert 0.0 < heights[0] < heights[-1] < 1.0
    for name, (bottom, top) in record["bands"].items():
        assert (bottom, top) == ((0.0, 0.5) if name == "low" else (0.0, 1.0))


@pytest.mark.parametrize(
    ("shape", "kept"), [((32, 41), (32, 41)), ((300, 41), (128, 41)), ((8, 4001), (8, 400))]
)
def test_large_maps_are_averaged_down(shape, kept):
    values = np.random.default_rng(0).random(shape)
    small = shrink(values)
    assert small.shape == kept
    assert small.mean() == pytest.approx(values.mean(), abs=0.01)


def test_packed_values_are_clipped_to_their_range():
    assert unpack(pack(np.array([[-9.0, 0.5, 9.0]]), 0.0, 1.0)) == pytest.approx(
        np.array([[0.0, 0.5, 1.0]]), abs=0.002
    )


@pytest.mark.parametrize("loudest", [0.0, 1e-6, 3.0])
def test_overview_is_in_db_below_the_loudest_cell(subject, loudest):
    power = torch.full((32, 3000), loudest * 1e-3)
    power[5, :300] = loudest
    record = pack_overview(power, scales_of(subject.frontend, 3000), 30.0)
    level_db = unpack(record["spectrogram"])
    assert level_db.shape == (32, 1000)
    assert level_db[5, 0] == pytest.approx(0.0, abs=0.2)
    assert level_db[9, -1] == pytest.approx(-30.0 if loudest else 0.0, abs=0.2)
    assert record["extent_s"] == [0.0, 30.0]


def test_who_hears_has_a_spectrogram_of_its_own(closed, heard):
    spec, sound = heard
    plan, _ = closed.model.prepare(spec[None], closed.routing, sound=sound, k=2)
    reasons = find_reasons(closed, spec, sound=sound, plan=plan)
    reasons.own_maps["first"].spec[:, 30:] = np.nan  # as if only the beginning had been sent
    record = pack_arrays(reasons)
    json.dumps(record, allow_nan=False)
    assert record["expert_maps"] == {}
    assert list(record["own"]) == ["first", "second"]
    for name, packed in record["own"].items():
        own = reasons.own_maps[name]
        heat = unpack(packed["map"])
        assert heat == pytest.approx(own.values / own.values.max(), abs=0.003)
        assert len(packed["bins_hz"]) == packed["spectrogram"]["bins"] == 16
        assert packed["extent_s"][1] > 0.4
    quiet = unpack(record["own"]["first"]["spectrogram"])[:, 30:]
    assert (quiet == record["own"]["first"]["spectrogram"]["low"]).all()
