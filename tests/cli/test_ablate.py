"""``xmoe ablate`` passes its options on, makes a synthetic set once, and shows the tables."""

import sys
from types import ModuleType

import pytest

from xmoe.ablation import study as real
from xmoe.cli import main

FIGURES = {"value": 0.9, "ci": [0.85, 0.95], "by_seed": [0.9]}
RESULT = {
    "title": "tones",
    "seeds": (0, 1),
    "clips": {"test": 40},
    "equal_compute": [
        {"arm": arm, "condition": "test", "target": t, "accuracy": FIGURES, "difference": FIGURES}
        for arm in ("saliency", "features")
        for t in ("mean K 0.5", "mean K 1", "K=1")
    ],
    "windows": [
        {"selector": s, "fraction": 0.125, "accuracy": FIGURES, "difference": FIGURES}
        for s in ("saliency", "random")
    ],
}


@pytest.fixture
def studies(monkeypatch):
    """Put a study that only notes what it is asked in the place of the real one."""
    seen = []
    fake = ModuleType("xmoe.ablation.study")
    fake.Study = real.Study
    fake.run_study = lambda study, progress: seen.append(study) or RESULT
    monkeypatch.setitem(sys.modules, "xmoe.ablation.study", fake)
    return seen


def test_options_become_a_study(studies, run_json, tmp_path):
    options = ("--dataset", tmp_path, "--out", tmp_path / "o", "--seeds", "3,4,3", "--steps", "7")
    code, fields = run_json("ablate", *options, "--arms", "features,shuffled", "--test-fold", 2)
    assert code == 0
    assert fields["out"] == str(tmp_path / "o")
    (study,) = studies
    assert study.seeds == (3, 4)
    assert [arm.name for arm in study.arms] == ["saliency", "features", "shuffled"]
    assert (study.steps, study.samples, study.set.test_fold) == (7, 4096, 2)
    assert study.set.dataset_dir == tmp_path


def test_all_arms_and_three_seeds_unless_told(studies, run_json, tmp_path):
    run_json("ablate", "--dataset", tmp_path, "--out", tmp_path)
    assert studies[0].seeds == (0, 1, 2)
    assert len(studies[0].arms) >= 10


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ((), "--synthetic"),
        (("--dataset", ".", "--synthetic", "200"), "--synthetic"),
        (("--dataset", ".", "--seeds", "1,x"), "whole numbers"),
        (("--dataset", ".", "--arms", ","), "names nothing"),
        (("--dataset", ".", "--arms", "magic"), "magic"),
    ],
)
def test_what_cannot_be_compared_is_refused(studies, run_json, tmp_path, options, word):
    code, fields = run_json("ablate", *options, "--out", tmp_path)
    assert code == 2
    assert word in fields["what"]
    assert studies == []


def test_a_synthetic_set_is_made_once(studies, run_json, tmp_path):
    options = ("ablate", "--synthetic", "100", "--out", tmp_path)
    assert run_json(*options)[0] == 0
    made = tmp_path / "recordings" / "metadata.csv"
    first = made.stat().st_mtime_ns
    assert studies[0].set.dataset_dir == tmp_path / "recordings"
    assert run_json(*options)[0] == 0
    assert made.stat().st_mtime_ns == first
    code, fields = run_json("ablate", "--synthetic", "101", "--out", tmp_path)
    assert code == 2
    assert "another synthetic set" in fields["what"]


def test_tables_show_arms_and_selectors(studies, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["ablate", "--dataset", str(tmp_path), "--out", str(tmp_path), "-q"])
    out = capsys.readouterr().out
    assert "features" in out
    assert "+90.0 [+85.0, +95.0]" in out
    assert "windows picked by" in out
    assert "ablation.png" in out
    assert "mean K 2" not in out  # no such target in this study
