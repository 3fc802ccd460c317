"""Rows survive the way to Arrow and Parquet and back."""

import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from xmoe.audio.dataset import Example
from xmoe.audio.quarantine import Quarantined
from xmoe.profile.table import (
    examples_to_table,
    measure_block,
    parquet_to_rows,
    rows_to_parquet,
    rows_to_table,
    table_to_examples,
    table_to_rows,
)

BAD = Quarantined(filepath="b.wav", code="empty", reason="no samples", mend="copy it again")


def test_rows_of_both_kinds_come_back_equal(plain, make_rows):
    silent = replace(plain, fmin_eff_hz=None, fmax_eff_hz=None, band_limit_hz=3.0, group="g")
    rows = [*make_rows(3), BAD, silent, replace(plain, labels=(), psd_db=())]
    assert table_to_rows(rows_to_table(rows)) == rows


@pytest.mark.parametrize("rows", [[], [BAD]])
def test_blocks_without_readable_clips_keep_the_schema(plain, rows):
    assert rows_to_table(rows).schema == rows_to_table([plain]).schema
    assert table_to_rows(rows_to_table(rows)) == rows


def test_parquet_comes_back_sorted_with_the_same_bytes_for_any_order(make_rows):
    rows = make_rows(20, change=lambda i, label: {"snr_db": i / 3})
    shuffled = rows.copy()
    random.Random(0).shuffle(shuffled)
    data = rows_to_parquet(shuffled)
    assert data == rows_to_parquet(rows)
    assert parquet_to_rows(data) == rows


@pytest.mark.parametrize("damage", [b"", b"not parquet at all", "half"])
def test_torn_parquet_is_refused(plain, damage):
    data = rows_to_parquet([plain])
    with pytest.raises(ValueError, match="not a table of clips"):
        parquet_to_rows(data[: len(data) // 2] if damage == "half" else damage)


def test_examples_come_back_equal():
    examples = [
        Example("a.wav", "train", ("x",)),
        Example("b.wav", "test", ("x", "y"), start_s=0.5, end_s=1.25, group="g", row=7),
    ]
    assert table_to_examples(examples_to_table(examples)) == examples


def test_block_of_missing_files_is_all_errors():
    table = examples_to_table([Example("a.wav", "train", ("x",)), Example("b.wav", "val", ("y",))])
    measured = measure_block(table, root=str(Path("/nonexistent")))
    assert [row.code for row in table_to_rows(measured)] == ["missing", "missing"]


def test_worker_needs_no_scikit_learn_matplotlib_or_ray():
    code = (
        "import sys, xmoe.profile.table; print({'sklearn', 'ray', 'matplotlib'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
