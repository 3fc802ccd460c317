"""A tiny study from recordings to picture; what is finished is not done again."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest

from xmoe.ablation import study as module
from xmoe.ablation.arms import find_arms
from xmoe.ablation.study import Study, check_same, encode_rows, run_study
from xmoe.base.config import TrainConfig
from xmoe.base.errors import ConfigError, RunFolderError
from xmoe.pipeline.request import FitRequest

ARMS = ("saliency", "shuffled", "random_experts")


@pytest.fixture(scope="module")
def study(tones, tmp_path_factory):
    request = FitRequest(
        dataset_dir=tones,
        out_dir=tmp_path_factory.mktemp("study"),
        train=TrainConfig(epochs=1, device="cpu"),
        policy="rule",
    )
    return Study(request, seeds=(0, 1), arms=find_arms(ARMS), steps=20, samples=64)


@pytest.fixture(scope="module")
def result(study):
    return run_study(study)


def test_every_arm_is_compared_at_equal_compute(result):
    rows = result["equal_compute"]
    assert {row["arm"] for row in rows} == set(ARMS)
    assert {row["condition"] for row in rows} == {"val", "test", "noisy"}
    for row in rows:
        low, high = row["accuracy"]["ci"]
        assert 0 <= low <= row["accuracy"]["value"] <= high <= 1 + 1e-9
        assert len(row["accuracy"]["by_seed"]) == 2
    assert result["clips"]["test"] == 12
    assert len(result["windows"]) == 9
    assert 0 <= result["best_single_expert"]["value"] <= 1


def test_asking_none_or_all_is_the_same_answer_whoever_ranks(result):
    """K = 0 is the stem; with one mixture for all arms it cannot differ."""
    rows = [row for row in result["equal_compute"] if row["target"] == "K=0"]
    assert all(row["difference"]["value"] == 0 for row in rows)


def test_what_is_written(study, result):
    out = study.set.out_dir
    assert json.loads((out / "ablation.json").read_text())["seeds"] == [0, 1]
    with (out / "ablation.csv").open() as lines:
        table = list(csv.DictReader(lines))
    assert len(table) == len(result["equal_compute"])
    assert table[0]["arm"] == "saliency"
    assert (out / "ablation.png").read_bytes().startswith(b"\x89PNG")


def test_finished_cells_are_not_redone(study, result, monkeypatch):
    def refuse(*_args, **_settings):
        raise AssertionError("was done already")

    for name in ("train_seed", "observe_seed", "make_cell", "make_windows_cell"):
        monkeypatch.setattr(module, name, refuse)
    again = run_study(study)
    assert again["equal_compute"] == result["equal_compute"]
    assert again["windows"] == result["windows"]


def test_a_cell_that_is_lost_is_made_again_alone_and_the_same(study, result, monkeypatch):
    lost = study.set.out_dir / "seed-1" / "cells" / "shuffled.npz"
    before = np.load(lost, allow_pickle=False)["test.right"]
    lost.unlink()
    made, make = [], module.make_cell
    monkeypatch.setattr(
        module, "make_cell", lambda arm, *a, **s: made.append(arm.name) or make(arm, *a, **s)
    )
    again = run_study(study)
    assert made == ["shuffled"]
    np.testing.assert_array_equal(np.load(lost, allow_pickle=False)["test.right"], before)
    assert again["equal_compute"] == result["equal_compute"]


def test_progress_names_seed_and_arm(study, result):
    (study.set.out_dir / "seed-0" / "cells" / "shuffled.npz").unlink()
    said = []
    run_study(study, progress=lambda stage, done, total=None, note="": said.append((stage, note)))
    assert ("seed 0 arms", "shuffled") in said


def test_other_settings_in_the_same_folder_are_refused(study, result):
    with pytest.raises(ConfigError, match="other settings for: steps"):
        check_same(replace(study, steps=21))


def test_a_torn_cell_is_named(study, result):
    path = study.set.out_dir / "seed-0" / "cells" / "saliency.npz"
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    with pytest.raises(RunFolderError, match=r"saliency\.npz"):
        run_study(study)
    path.write_bytes(whole)


def test_no_seed_is_refused(study):
    with pytest.raises(ConfigError, match="no seed"):
        run_study(replace(study, seeds=()))


def test_rows_as_csv():
    figures = {"value": 0.5, "ci": [0.25, 0.75]}
    row = {"arm": "a", "condition": "test", "target": "K=1", "accuracy": figures}
    text = encode_rows([{**row, "difference": figures}]).decode().splitlines()
    assert text[1] == "a,test,K=1,0.50000,0.25000,0.75000,0.50000,0.25000,0.75000"
