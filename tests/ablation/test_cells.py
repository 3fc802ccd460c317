"""Cells on disk: whole or not at all, and read back as they were."""

from types import SimpleNamespace

import numpy as np
import pytest

from xmoe.ablation.arms import ARMS
from xmoe.ablation.cells import (
    CONDITIONS,
    CURVE,
    Sight,
    make_cell,
    read_cell,
    read_curve,
    write_cell,
)
from xmoe.base.errors import RunFolderError
from xmoe.base.task import SingleLabel


def test_a_cell_comes_back_as_it_was(tmp_path):
    cell = {f"test.{name}": np.arange(4.0) + i for i, name in enumerate(CURVE)}
    path = tmp_path / "cells" / "a.npz"
    write_cell(path, cell)
    read = read_cell(path)
    assert set(read) == set(cell)
    for name, values in cell.items():
        np.testing.assert_array_equal(read[name], values)
    assert read_curve(read, "test").fixed.tolist() == [2.0, 3.0, 4.0, 5.0]
    assert [p.name for p in path.parent.iterdir()] == ["a.npz"]


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 not a zip", b"garbage"])
def test_a_torn_cell_is_refused(tmp_path, damage):
    path = tmp_path / "a.npz"
    path.write_bytes(damage)
    with pytest.raises(RunFolderError, match="not a whole cell"):
        read_cell(path)


@pytest.fixture
def sight(config, observed, unseen):
    """Return a sight of the made-up mixture; no model stands behind it."""
    seen = {"train": observed, "val": unseen, "test": unseen, "noisy": unseen}
    return Sight(SimpleNamespace(config=config, model=None, task=SingleLabel()), seen)


@pytest.mark.parametrize("name", ["saliency", "shuffled", "random_experts"])
def test_a_cell_holds_a_curve_for_every_condition(sight, name):
    cell = make_cell(ARMS[name], sight, steps=100)
    for condition in CONDITIONS:
        curve = read_curve(cell, condition)
        assert curve.right.shape == (len(curve.mean_k), 400)
        assert curve.fixed.shape == (3, 400)
        assert cell[f"{condition}.best_single"].mean() == 1.0
    at_one = read_curve(cell, "test").fixed[1].mean()
    assert (at_one > 0.9) if name == "saliency" else (at_one < 0.75)
