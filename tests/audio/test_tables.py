"""Manifests as files: every way of writing the same table reads the same, every damage is named."""

import json
import math
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from xmoe.audio.tables import (
    header_of,
    parse_number,
    parse_table,
    parse_time,
    pick_column,
    read_table,
)
from xmoe.base.errors import DatasetError

ROWS = ({"filepath": "a.wav", "label": "x;y"}, {"filepath": "b.wav", "label": "5"})


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("plain.csv", "filepath,label\na.wav,x;y\nb.wav,5\n"),
        ("bom.csv", "\ufefffilepath,label\r\na.wav,x;y\r\nb.wav,5\r\n"),
        ("spaces.csv", " filepath , label\n a.wav , x;y \n\n b.wav , 5\n"),
        ("quotes.csv", '"filepath","label"\n"a.wav","x;y"\n"b.wav","5"'),
        ("tabs.tsv", "filepath\tlabel\na.wav\tx;y\nb.wav\t5\n"),
        ("european.csv", 'filepath;label\na.wav;"x;y"\nb.wav;5\n'),
        ("named.csv", 'sep=;\r\nfilepath;label\r\na.wav;"x;y"\r\nb.wav;5\r\n'),
        ("pipes.csv", "filepath|label\na.wav|x;y\nb.wav|5\n"),
        ("old mac.csv", "filepath,label\ra.wav,x;y\rb.wav,5\r"),
        ("blank first.csv", "\n\nfilepath\tlabel\na.wav\tx;y\nb.wav\t5\n"),
        ("space before quotes.csv", 'filepath, label\na.wav, "x;y"\nb.wav, "5"\n'),
        ("empty at the end.csv", "filepath,label\na.wav,x;y,,\nb.wav,5,\n"),
        ("excel.csv", "filepath\tlabel\r\na.wav\tx;y\r\nb.wav\t5\r\n".encode("utf-16")),
        ("big.csv", "\ufefffilepath,label\na.wav,x;y\nb.wav,5\n".encode("utf-16-be")),
        ("unmarked.csv", "filepath,label\na.wav,x;y\nb.wav,5\n".encode("utf-16-le")),
        (
            "lists.jsonl",
            '{"filepath": "a.wav", "label": ["x", "y"]}\n\n{"filepath": "b.wav", "label": 5}',
        ),
    ],
)
def test_the_same_table_in_any_dress(tmp_path, name, content):
    table = read_table(write(tmp_path, name, content))
    assert table.rows == ROWS
    assert table.columns == ("filepath", "label")


@pytest.mark.parametrize(
    ("text", "cells"),
    [
        ("file;label, if known;x", ["file", "label, if known", "x"]),
        ("sep=,\na;b;c,d", ["a;b;c", "d"]),
        ('\n"a"\t"b, c, d"\n', ["a", "b, c, d"]),
        ("", []),
    ],
)
def test_the_header_says_what_separates(text, cells):
    assert header_of(text) == cells
    if cells:
        assert parse_table(Path("t.csv"), text).columns == tuple(cells)


def test_a_line_that_names_the_separator_is_counted(tmp_path):
    table = read_table(write(tmp_path, "t.csv", "sep=\t\rfile,label\tx\ra\tb\r"))
    assert table.rows == ({"file,label": "a", "x": "b"},)
    assert table.lines == (3,)


@pytest.mark.parametrize("cell", ["", "NaN", "nan", "<NA>", "#N/A", "n/a", "null", "NULL", "NaT"])
def test_what_is_missing_is_empty_however_it_is_spelled(tmp_path, cell):
    wanted = ({"a": "1", "b": ""}, {"a": "NA", "b": "none"})  # names of classes too
    assert read_table(write(tmp_path, "t.csv", f"a,b\n1,{cell}\nNA,none\n")).rows == wanted
    text = f'{{"a": 1, "b": "{cell}"}}\n{{"a": "NA", "b": "none"}}\n'
    assert read_table(write(tmp_path, "t.jsonl", text)).rows == wanted


def test_what_is_missing_in_json_and_parquet_is_empty(tmp_path):
    text = '{"a": NaN, "b": null}\n{"a": [NaN, "x", null], "b": "u\u2028v"}\n'
    wanted = ({"a": "", "b": ""}, {"a": "x", "b": "u\u2028v"})
    assert read_table(write(tmp_path, "t.jsonl", text)).rows == wanted
    path = tmp_path / "t.parquet"
    columns = {"a": [float("nan"), 2.0, None], "b": [None, "NaN", "x"]}
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    cells = [tuple(row.values()) for row in read_table(path).rows]
    assert cells == [("", ""), ("2", ""), ("", "x")]


def test_stray_quotes_in_a_table_with_tabs_swallow_no_row(tmp_path):
    text = 'file\tlabel\n"a.wav"\t"song\nb.wav\tcall 5" long\nc.wav\t"x, ""y"""\n'
    table = read_table(write(tmp_path, "t.tsv", text))
    assert [row["file"] for row in table.rows] == ["a.wav", "b.wav", "c.wav"]
    assert [row["label"] for row in table.rows] == ['"song', 'call 5" long', 'x, ""y""']


def test_a_guessed_encoding_is_noted(tmp_path):
    table = read_table(write(tmp_path, "t.csv", "file,label\na,caf\xe9\n".encode("cp1252")))
    assert table.rows == ({"file": "a", "label": "caf\xe9"},)
    assert len(table.notes) == 1


@pytest.mark.parametrize(
    ("cell", "number"),
    [("1.5", 1.5), ("1,5", 1.5), ("-2", -2.0), ("1e3", 1000.0), ("", None), (" NA ", None)],
)
def test_numbers(cell, number):
    assert parse_number(cell) == number
    assert math.isnan(parse_number("1.234,5"))
    assert math.isnan(parse_number("0:30"))


def test_columns_are_found_whatever_their_case_and_spaces():
    columns = ("\ufeffFile Name", "label", "Label")
    assert pick_column(columns, ("path", "filename")) == "\ufeffFile Name"
    assert pick_column(columns, ("Label",)) == "Label"
    assert pick_column(columns, ("LABEL",)) == "label"
    assert pick_column(columns, ("class",)) is None


def test_parquet_reads_like_text(tmp_path):
    path = tmp_path / "t.parquet"
    columns = {"file": ["a", "b"], "fold": [1.0, None], "label": [["x", "y"], []]}
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    table = read_table(path)
    assert table.rows[0] == {"file": "a", "fold": "1", "label": "x;y"}
    assert table.rows[1] == {"file": "b", "fold": "", "label": ""}
    assert table.where(1).endswith("t.parquet row 2")


def test_lines_count_what_an_editor_shows(tmp_path):
    table = read_table(write(tmp_path, "t.csv", 'file,label\n\na,"two\nlines"\nb,y\n'))
    assert table.lines == (4, 5)
    assert table.where(1).endswith("t.csv line 5")


def test_rows_may_lack_trailing_cells_and_objects_may_lack_fields(tmp_path):
    assert read_table(write(tmp_path, "t.csv", "a,b\n1\n")).rows == ({"a": "1", "b": ""},)
    table = read_table(write(tmp_path, "t.jsonl", '{"a": 1}\n{"b": 2}'))
    assert table.rows == ({"a": "1", "b": ""}, {"a": "", "b": "2"})


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", "", "empty"),
        ("t.csv", "\n\n", "empty"),
        ("t.csv", "filepath,label\n", "no recordings"),
        ("t.jsonl", "\n", "no recordings"),
        ("t.parquet", b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        ("t.csv", "file,label\na,b,c\n", "line 2 has 3 cells"),
        ("t.csv", "file,file\na,b\n", "file more than once"),
        ("t.csv", 'file,label\n"a,b\n', "line 2"),
        ("t.csv", "file,label\n" + "a" * 200_000 + ",b\n", "line 2"),
        ("t.jsonl", '{"a": 1}\n{"a": \n', "line 2 is not JSON"),
        ("t.jsonl", "[" * 100_000, "line 1 is not JSON"),
        ("t.jsonl", "[1, 2]", "line 1 is not a JSON object"),
        ("t.parquet", b"PAR1 this is no parquet file", "not a Parquet"),
        ("t.xlsx", b"PK", "cannot be read from '.xlsx'"),
    ],
)
def test_damage_is_named_with_its_line_and_a_way_out(tmp_path, name, content, message):
    path = write(tmp_path, name, content)
    with pytest.raises(DatasetError, match=message) as caught:
        read_table(path)
    assert caught.value.where == str(path)
    assert caught.value.mend


def test_a_missing_manifest_is_named(tmp_path):
    with pytest.raises(DatasetError, match="no such file"):
        read_table(tmp_path / "none.csv")


def test_unicode_comes_through(tmp_path):
    row = {"file": "søn/ü.wav", "label": "Grünfink"}
    path = write(tmp_path, "t.jsonl", json.dumps(row, ensure_ascii=False))
    assert read_table(path).rows == (row,)


@pytest.mark.parametrize(
    ("cell", "seconds"),
    [
        ("12.5", 12.5),
        ("12,5", 12.5),
        ("2:03.5", 123.5),
        ("02:03,5", 123.5),
        ("1:02:03", 3723.0),
        ("100:00:00", 360_000.0),
        ("", None),
        ("NA", None),
    ],
)
def test_times_are_seconds_or_hours_minutes_and_seconds(cell, seconds):
    assert parse_time(cell) == seconds


@pytest.mark.parametrize(
    "cell", ["1:60", "1:-2", "1.5:02", "1:02:03:04", "a:b", "1:", ":", "2024-05-01 05:30:00"]
)
def test_what_is_no_time_is_not_taken_for_one(cell):
    assert math.isnan(parse_time(cell))
