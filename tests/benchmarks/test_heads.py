"""Ways to read features: one of them is that of the product."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from xmoe.experts.head import Scaling

FILE = Path(__file__).parents[2] / "benchmarks" / "heads.py"


@pytest.fixture(scope="module")
def module():
    spec = importlib.util.spec_from_file_location("heads", FILE)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def test_limited_and_damped_is_what_training_does(module):
    table = np.random.default_rng(0).normal(scale=2.0, size=(50, 7)).astype(np.float32)
    scaling = Scaling(torch.zeros(7), torch.ones(7))
    found = {name: way(table) for name, way in module.WAYS.items()}
    assert found["limited and damped"] == pytest.approx(scaling.apply_rows(table), abs=1e-6)
    assert np.linalg.norm(found["of unit length"], axis=1) == pytest.approx(1.0, abs=1e-6)
    assert np.linalg.norm(found["damped"], axis=1) == pytest.approx(
        np.sqrt(np.linalg.norm(table, axis=1)), rel=1e-5
    )
    assert np.abs(found["limited"]).max() == 3.0
