"""What the heads of the benchmark of other speeds are fitted to."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from xmoe.base.task import task_of
from xmoe.training.heads import Targets

FILE = Path(__file__).parents[2] / "benchmarks" / "speeds.py"


@pytest.fixture
def module(monkeypatch):
    for name in ("heads", "speeds"):  # speeds imports heads, from the folder that both lie in
        spec = importlib.util.spec_from_file_location(name, FILE.with_name(f"{name}.py"))
        loaded = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, loaded)
        spec.loader.exec_module(loaded)
    return loaded


def test_copies_follow_their_rows_and_those_of_validation_are_not_fitted(module):
    rows = np.eye(5)
    copies = np.array([1, 2, 4, 1, 2, 4])  # two speeds of three rows
    everyone = np.ones(5, dtype=bool)
    targets = Targets(rows, np.arange(5), everyone, task_of("single_label"), copies=copies)
    training = np.array([0, 2, 4])
    own, places = module.pick_training(targets, training, copies=True)
    assert own.copies.tolist() == [1, 2, 1, 2]
    assert places.tolist() == [0, 2, 4, 5 + 1, 5 + 2, 5 + 4, 5 + 5]
    assert (own.rows == rows[training]).all()
    own, places = module.pick_training(targets, training, copies=False)
    assert not len(own.copies)
    assert places.tolist() == [0, 2, 4]
