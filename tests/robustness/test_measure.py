"""The record: deterministic, bounded, balanced, paired; a clean clip loses nothing."""

import json
from dataclasses import replace

import pytest

from xmoe.audio.clip import read_clip
from xmoe.audio.dataset import Example
from xmoe.base.errors import DatasetError
from xmoe.robustness import measure
from xmoe.robustness.harms import list_harms
from xmoe.robustness.measure import measure_robustness, pick_examples


@pytest.fixture(scope="module")
def record(predictor, dataset):
    return measure_robustness(predictor, dataset, dataset.split("test"), clips=12)


def test_every_harm_has_a_point_for_each_level(record, predictor):
    expected = {one.name: list(one.levels) for one in list_harms(predictor.config.spectro)}
    found = {one["name"]: [p["level"] for p in one["points"]] for one in record["harms"]}
    assert found == expected
    for harm in record["harms"]:
        for point in harm["points"]:
            low, high = point["accuracy_ci"]
            assert 0 <= low <= point["accuracy"] <= high <= 1
            assert point["loss"] == pytest.approx(record["clean"]["accuracy"] - point["accuracy"])
            assert point["loss_ci"][0] <= point["loss"] <= point["loss_ci"][1]


def test_clean_clips_lose_nothing_and_the_sample_is_bounded(record):
    assert record["clean"]["loss"] == 0.0
    assert record["clean"]["loss_ci"] == [0.0, 0.0]
    assert (record["num_clips"], record["num_clips_of_split"], record["num_unread"]) == (12, 24, 0)


def test_the_same_seed_gives_the_same_record(record, predictor, dataset):
    again = measure_robustness(predictor, dataset, dataset.split("test"), clips=12)
    assert json.dumps(again) == json.dumps(record)


def test_answers_are_those_of_the_predictor(record, predictor, dataset):
    right = []
    for example in pick_examples(dataset.split("test"), 12, 0):
        clip = read_clip(dataset.path(example))
        answer = predictor.predict(clip.samples, clip.sample_rate_hz)
        right.append(answer.label == example.labels[0])
    assert record["clean"]["accuracy"] == pytest.approx(sum(right) / 12)


def test_a_sample_is_balanced_and_keeps_the_order():
    examples = [Example(f"{i:03d}.wav", "test", ("ab"[i % 10 == 0],)) for i in range(100)]
    picked = pick_examples(examples, 20, 0)
    assert sum(one.labels == ("b",) for one in picked) == 2
    assert picked == sorted(picked, key=lambda one: one.filepath)
    assert pick_examples(examples, 20, 1) != picked
    assert pick_examples(examples, 500, 0) == examples


def test_recordings_that_cannot_be_read_are_counted(predictor, dataset):
    broken = replace(dataset.split("test")[0], filepath="none.wav")
    found = measure_robustness(predictor, dataset, [broken, *dataset.split("test")[:3]])
    assert (found["num_clips"], found["num_unread"]) == (3, 1)
    with pytest.raises(DatasetError, match="no recording can be read"):
        measure_robustness(predictor, dataset, [broken])


def test_a_harm_that_a_recording_cannot_take_is_left_out_with_the_reason(
    predictor, dataset, monkeypatch
):
    only = replace(list_harms(predictor.config.spectro)[-1], most_hz=4000)
    monkeypatch.setattr(measure, "list_harms", lambda _: (only,))
    (harm,) = measure_robustness(predictor, dataset, dataset.split("test")[:3])["harms"]
    assert harm["points"] == []
    assert harm["absent"] == "recordings go up to 8000 Hz, it takes at most 4000 Hz"
