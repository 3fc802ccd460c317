"""What a part of the router's evidence is worth, on answers of which that is known."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from xmoe.routing.promise import ANSWER_NUMBERS
from xmoe.training.promise import Depths

FILE = Path(__file__).parents[2] / "benchmarks" / "evidence.py"
NUM_SALIENCY, NUM_CONDITIONS, ROWS = 5, 8, 600


@pytest.fixture(scope="module")
def module():
    spec = importlib.util.spec_from_file_location("evidence", FILE)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


@pytest.fixture(scope="module")
def depths():
    """One expert that is right where the stem is not; only saliency tells which clips those are."""
    rng = np.random.default_rng(1)
    hard = rng.random(ROWS) < 0.3
    width = 2 * ANSWER_NUMBERS + NUM_SALIENCY + NUM_CONDITIONS
    evidence = rng.standard_normal((ROWS, width))
    evidence[:, 2 * ANSWER_NUMBERS] = np.where(hard, 1.0, -1.0)
    right = np.stack([~hard, np.ones(ROWS)], axis=1).astype(float)
    return Depths(("one",), (10.0,), (evidence, evidence), right, np.arange(ROWS) // 10)


def accuracy(module, depths, arm, spent):
    share = spent / sum(depths.costs_ms)
    return module.read(module.ARMS[arm](depths)).rights_at([share]).mean()


def test_each_arm_hides_its_own_columns(module, depths):
    width = depths.evidence[0].shape[1]
    counts = {
        name: [int((table == 0.0).all(0).sum()) for table in arm(depths).evidence]
        for name, arm in module.ARMS.items()
    }
    assert counts == {
        "everything": [0, 0],
        "without saliency": [NUM_SALIENCY] * 2,
        "saliency of another clip": [0, 0],
        "without conditions": [NUM_CONDITIONS] * 2,
        "answers alone": [NUM_SALIENCY + NUM_CONDITIONS] * 2,
        "saliency alone": [2 * ANSWER_NUMBERS + NUM_CONDITIONS] * 2,
        "nothing": [width] * 2,
    }


def test_what_decides_is_worth_what_it_spares(module, depths):
    # Of 3 ms a clip the router that knows makes all answers right, chance three in ten.
    assert accuracy(module, depths, "everything", 3.0) > 0.97
    assert accuracy(module, depths, "saliency alone", 3.0) > 0.97
    assert accuracy(module, depths, "without conditions", 3.0) > 0.97
    for blind in ("nothing", "without saliency", "saliency of another clip"):
        assert accuracy(module, depths, blind, 3.0) == pytest.approx(0.79, abs=0.04)
