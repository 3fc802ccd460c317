"""Cells on disk: whole or not at all, and read back as they were."""

import numpy as np
import pytest

from xmoe.ablation.cells import CURVE, read_cell, read_curve, write_cell
from xmoe.errors import RunFolderError


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
