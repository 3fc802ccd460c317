"""What people use today, judged on a set whose answer is known; real sets as tables."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from tests.fixtures.backbones import RATE_HZ, tiny_backbone
from xmoe.audio.dataset import load_dataset
from xmoe.experts.backbone import BackboneEar

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def load():
    """Load a benchmark by name as it is loaded when it is run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))

        def find(name):
            spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
            module = importlib.util.module_from_spec(spec)
            patch.setitem(sys.modules, name, module)
            spec.loader.exec_module(module)
            return module

        yield find


@pytest.fixture
def loud_and_quiet(tmp_path):
    rng = np.random.default_rng(0)
    lines = ["filepath,split,label"]
    for index in range(24):
        level = (0.02, 0.3)[index % 2]
        samples = level * rng.standard_normal(RATE_HZ // 4)
        sf.write(tmp_path / f"{index}.wav", samples, RATE_HZ)
        split = ("train", "train", "val", "test")[index % 8 // 2]
        lines.append(f"{index}.wav,{split},{('quiet', 'loud')[index % 2]}")
    (tmp_path / "metadata.csv").write_text("\n".join(lines) + "\n")
    return load_dataset(tmp_path)


def test_an_embedding_that_knows_the_answer_is_right_on_every_clip(load, loud_and_quiet, tmp_path):
    ear = BackboneEar(tiny_backbone(tmp_path), str(tmp_path))
    book = {}
    found = load("peers").judge_peer(loud_and_quiet, ear, book)
    assert len(book) == 24
    assert found["accuracy"] == 1.0
    assert found["train_s"] > 0.0
    assert found["clip_ms"] > 0.0


def test_the_price_is_chosen_on_held_out_clips_and_read_off_on_test(load):
    benchmark = load("real_sets")
    found = {
        "prices": [
            {"price": 0.1, "mean_ms": 1.0, "right_clean": 0.90},
            {"price": 0.01, "mean_ms": 2.0, "right_clean": 0.995},
            {"price": -1000.0, "mean_ms": 9.0, "right_clean": 1.0},
        ],
        "curve": [
            {"price": 0.1, "accuracy": 0.99, "mean_ms": 1.0, "calls": 0.0},
            {"price": 0.01, "accuracy": 0.97, "mean_ms": 2.5, "calls": 0.3},
        ],
        "everyone": {"accuracy": 0.98, "mean_ms": 9.5, "calls": 1.0},
    }
    assert benchmark.keep_most(found)["accuracy"] == 0.97
    assert benchmark.at_quarter(found) == 0.99
    alone = found | {"prices": found["prices"][2:]}
    assert benchmark.keep_most(alone)["accuracy"] == 0.98


def test_folds_of_a_set_count_as_one(load):
    benchmark = load("peers")

    def one(peer, ours):
        return {"peers": {"net": {"accuracy": peer}}, "xmoe": {"accuracy": ours, "most": ours}}

    found = {"esc10-1": one(0.8, 0.9), "esc10-2": one(0.6, 0.7), "fsdd": one(0.9, 1.0)}
    assert benchmark.summarise(found) == (
        "mean over the sets: net 80.0 %, the better of them on each set 80.0 %, xmoe 90.0 %, "
        "xmoe at 99 % 90.0 %"
    )
