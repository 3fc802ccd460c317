"""A file is seen whole or not at all, and the same values are the same bytes."""

import errno
import math
import os
from pathlib import Path

import numpy as np
import pytest

from xmoe.base.errors import RunFolderError, StorageError
from xmoe.base.files import read_json, to_csv, to_json, write_bytes, write_json


def test_json_is_sorted_and_has_no_number_that_is_none():
    value = {"b": (1.5, math.nan), "a": np.array([1, 2]), 3: math.inf}
    expected = """{
  "3": null,
  "a": [
    1,
    2
  ],
  "b": [
    1.5,
    null
  ]
}
"""
    assert to_json(value) == expected


def test_json_comes_back(tmp_path):
    write_json(tmp_path / "new" / "value.json", {"name": "Müller", "hz": [1.0, 2.0]})
    assert read_json(tmp_path / "new" / "value.json") == {"name": "Müller", "hz": [1.0, 2.0]}
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["value.json"]


def test_a_full_disk_leaves_the_file_before_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "run.json"
    write_bytes(path, b"old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left") as caught:
        write_bytes(path, b"new")
    assert (caught.value.where, path.read_bytes()) == (str(path), b"old")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("text", ["{", "[" * 100_000, ""])
def test_what_is_no_json_is_named(tmp_path, text):
    path = tmp_path / "broken.json"
    path.write_text(text)
    with pytest.raises(RunFolderError, match="not readable as JSON") as caught:
        read_json(path)
    assert caught.value.where == str(path)


def test_a_file_that_is_not_there_says_how_to_get_one(tmp_path):
    with pytest.raises(RunFolderError, match="no such file") as caught:
        read_json(tmp_path / "none.json")
    assert "train again" in (caught.value.mend or "")


def test_rows_are_quoted_and_end_in_plain_newlines():
    rows = [("file", "said"), (Path("a,b.wav"), 7), ('"q"', None)]
    assert to_csv(rows) == b'file,said\n"a,b.wav",7\n"""q""",\n'
