"""The quarantine table: one row per file, sorted, and safe to open in a spreadsheet."""

import csv
from pathlib import Path

import pytest

from xmoe.audio.quarantine import Quarantined, write_quarantine
from xmoe.base.errors import AudioError, StorageError


def read(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_rows_are_written_sorted_with_a_header(tmp_path):
    rows = [
        Quarantined("b.wav", "empty", "no, samples", 'say "why"'),
        Quarantined("a", "c", "r", "m"),
    ]
    path = tmp_path / "run" / "quarantine.csv"
    write_quarantine(path, rows)
    assert read(path) == [
        ["file", "code", "reason", "what_to_do"],
        ["a", "c", "r", "m"],
        ["b.wav", "empty", "no, samples", 'say "why"'],
    ]


def test_no_rows_leave_the_header(tmp_path):
    write_quarantine(tmp_path / "q.csv", [])
    assert read(tmp_path / "q.csv") == [["file", "code", "reason", "what_to_do"]]


@pytest.mark.parametrize("name", ["=cmd()", "+1", "-1", "@sum", " =x"])
def test_formulas_are_disarmed(tmp_path, name):
    write_quarantine(tmp_path / "q.csv", [Quarantined(name, "c", "r", "m")])
    assert read(tmp_path / "q.csv")[1][0] == f"'{name}"


def test_control_characters_stay_out(tmp_path):
    write_quarantine(tmp_path / "q.csv", [Quarantined("a\r\n\t\0b\u202e", "c", "r", "m")])
    assert read(tmp_path / "q.csv")[1][0] == "a????b?"


def test_names_that_are_no_unicode_are_written_all_the_same(tmp_path):
    write_quarantine(tmp_path / "q.csv", [Quarantined("caf\udce9.wav", "c", "r", "m")])
    assert read(tmp_path / "q.csv")[1][0] == "caf?.wav"


def test_an_error_brings_its_words():
    error = AudioError("empty", "the file has 0 bytes", where="x", mend="copy it")
    assert Quarantined.from_error("a.wav", error) == Quarantined(
        "a.wav", "empty", "the file has 0 bytes", "copy it"
    )
    assert Quarantined.from_error("a", AudioError("empty", "w")).mend == "leave it out"


def test_a_folder_that_is_a_file_is_a_storage_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError):
        write_quarantine(tmp_path / "file" / "q.csv", [])
