"""The table of windows appears whole or not at all."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from xmoe.annotate import window_table
from xmoe.annotate.answers import Answered
from xmoe.annotate.window_table import WindowTable


def answered(first, count):
    starts = np.arange(first, first + count) * 100
    return Answered(
        starts=starts,
        lengths=np.full(count, 200),
        cells=np.stack([starts, starts + 100], 1),
        probabilities=np.tile([[0.25, 0.75]], (count, 1)),
        k=np.ones(count, np.int64),
        power=np.zeros((count, 4, 3), np.float32),
        around=np.full(count, -1),
    )


def test_groups_become_rows_in_their_order(tmp_path, monkeypatch):
    monkeypatch.setattr(window_table, "ROWS_PER_GROUP", 5)
    path = tmp_path / "w.parquet"
    with WindowTable(path, ("a", "b"), 1000) as table:
        for first in (0, 3, 6):
            table(answered(first, 3))
        assert not path.exists()
    rows = pq.read_table(path).to_pylist()
    assert [row["start_s"] for row in rows] == [i / 10 for i in range(9)]
    assert rows[2] == {"start_s": 0.2, "end_s": 0.4, "k": 1, "p_a": 0.25, "p_b": 0.75}


def fail_within(path):
    with WindowTable(path, ("a", "b"), 10) as table:
        table(answered(0, 2))
        raise ValueError("stop")


def test_an_error_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="stop"):
        fail_within(tmp_path / "w")
    assert list(tmp_path.iterdir()) == []
