"""Two runs written by hand, whose differences are known."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.fixtures.runs import tiny_config
from xmoe.base.errors import ConfigError
from xmoe.report.compare import Difference, compare_runs, describe
from xmoe.run.folder import RunFolder

CLASSES = ("low", "high")


def write(root, name, right, *, classes=CLASSES, k=1.0, ids=None, sounds=None, groups=None):
    """Write a run that answers clips (low, high, low ...) with 0.8 in the right or wrong class."""
    folder = RunFolder(root / name)
    folder.path.mkdir()
    config = tiny_config()
    model = config.model.model_copy(update={"num_classes": len(classes)})
    folder.write_record(
        "run_config.json", config.model_copy(update={"classes": classes, "model": model})
    )
    traces, clips = [], []
    for index, is_right in enumerate(right):
        clip_id = ids[index] if ids else f"{index:03d}.wav"
        label = CLASSES[index % 2]
        p = dict.fromkeys(classes, 0.0) | {label: 0.8 if is_right else 0.2}
        p[CLASSES[1 - index % 2]] = 1.0 - p[label]
        traces.append(
            {
                "clip_id": clip_id,
                "labels": [label],
                "k": k,
                "probabilities": [p[c] for c in classes],
            }
        )
        sound = sounds[index] if sounds else f"sound {index}"
        group = groups[index] if groups else None
        clips.append(
            {"clip_id": clip_id, "filepath": clip_id, "start_s": 0.0, "end_s": None}
            | {"split": "test", "snr_db": 0.0, "content_sha256": sound, "group": group}
        )
    pq.write_table(pa.Table.from_pylist(traces), folder.file("traces.parquet"))
    pq.write_table(pa.Table.from_pylist(clips), folder.file("clips.parquet"))
    return folder.path


def figure(found, name):
    return next(one for one in found.figures if one.name == name)


def test_differences_are_paired(tmp_path):
    one = write(tmp_path, "one", [True] * 60 + [False] * 40)
    other = write(tmp_path, "other", [True] * 80 + [False] * 20, k=2.5)
    found = compare_runs(one, other)
    accuracy = figure(found, "accuracy")
    assert (accuracy.first, accuracy.second) == (0.6, 0.8)
    assert accuracy.value == pytest.approx(0.2)
    # A fifth of the clips differ, all in one direction: 1.96 sqrt(0.2 x 0.8 / 100) on each side.
    assert accuracy.interval == pytest.approx((0.12, 0.28), abs=0.02)
    assert accuracy.is_clear
    k = figure(found, "mean_k")
    assert (k.first, k.second, k.interval) == (1.0, 2.5, pytest.approx((1.5, 1.5)))
    assert (found.both, len(found.only_first), len(found.only_second)) == (60, 0, 20)
    assert found.only_second[0] == "060.wav"
    assert (found.num_clips, found.units, found.notes) == (100, 100, ())


def test_a_run_does_not_differ_from_itself(tmp_path):
    one = write(tmp_path, "one", [True, False] * 10)
    found = compare_runs(one, one)
    assert all(row.value == 0.0 and row.interval == (0.0, 0.0) for row in found.figures)
    assert not any(row.is_clear for row in found.figures)
    assert found.classes == ()
    assert found.runs == (str(one), str(one))


def test_classes_that_differ_most_come_first(tmp_path):
    one = write(tmp_path, "one", [True] * 40)
    other = write(tmp_path, "other", [index % 2 == 0 or index < 20 for index in range(40)])
    (high,) = compare_runs(one, other).classes
    assert (high.name, high.first, high.second) == ("high", 1.0, 0.5)
    assert high.is_clear


def test_clips_of_one_group_are_drawn_together(tmp_path):
    groups = [f"g{index // 25}" for index in range(100)]
    right = [True] * 75 + [False] * 25
    one = write(tmp_path, "one", [True] * 100, groups=groups)
    other = write(tmp_path, "other", right, groups=groups)
    found = compare_runs(one, other)
    low, high = figure(found, "accuracy").interval
    assert found.units == 4
    assert (low, high) == pytest.approx((-0.75, 0.0))
    assert not figure(found, "accuracy").is_clear


def test_one_group_says_nothing_of_the_spread(tmp_path):
    one = write(tmp_path, "one", [True] * 4, groups=["g"] * 4)
    found = compare_runs(one, write(tmp_path, "other", [False] * 4, groups=["g"] * 4))
    assert {row.interval for row in found.figures} == {None}
    assert not Difference("x", 0.0, 1.0, None).is_clear


def test_clips_are_told_by_their_sound_and_columns_by_their_class(tmp_path):
    right = [True, True, False, True]
    one = write(tmp_path, "one", right)
    ids = [f"elsewhere/{index}.wav" for index in range(4)]
    other = write(tmp_path, "other", right, classes=CLASSES[::-1], ids=ids)
    found = compare_runs(one, other)
    assert found.num_clips == 4
    assert all(row.value == pytest.approx(0.0) for row in found.figures)


def test_what_only_one_run_answered_is_left_out_and_told(tmp_path):
    one = write(tmp_path, "one", [True] * 10)
    other = write(tmp_path, "other", [True] * 6)
    found = compare_runs(one, other)
    assert found.num_clips == 6
    assert found.notes == ("4 of 10 test clips of one are not among those of the other: left out",)


def test_runs_that_cannot_be_compared_are_named(tmp_path):
    one = write(tmp_path, "one", [True] * 4)
    strange = write(tmp_path, "strange", [True] * 4, sounds=list("abcd"))
    with pytest.raises(ConfigError, match="no test clip in common"):
        compare_runs(one, strange)
    third = write(tmp_path, "third", [True] * 4, classes=("low", "high", "humming"))
    with pytest.raises(ConfigError, match="classes differ: humming"):
        compare_runs(one, third)
    shifted = write(tmp_path, "shifted", [True] * 4, sounds=[f"sound {i + 1}" for i in range(4)])
    with pytest.raises(
        ConfigError, match=r"3 clips have other labels in each, for example 001\.wav"
    ):
        compare_runs(one, shifted)


def test_json_holds_all_of_it(tmp_path):
    one = write(tmp_path, "one", [True] * 10)
    fields = json.loads(json.dumps(describe(compare_runs(one, write(tmp_path, "b", [False] * 10)))))
    assert fields["figures"]["accuracy"]["difference"] == -1.0
    assert fields["figures"]["accuracy"]["ci"] == [-1.0, -1.0]
    assert len(fields["only_first"]) == 10
    assert np.isfinite(fields["figures"]["nll"]["difference"])
