"""Manifests as files: every way of writing the same table reads the same, every damage is named."""

import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from xmoe.audio.tables import read_table
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
        ("t.csv", "file,label\na,caf\xe9\n".encode("latin1"), "line 2 is not UTF-8"),
        ("t.csv", "file,label\na.wav\n".encode("utf-16"), "line 1 is not UTF-8"),
        ("t.csv", "file,label\na,b,c\n", "line 2 has 3 cells"),
        ("t.csv", "file,file\na,b\n", "file more than once"),
        ("t.csv", 'file,label\n"a,b\n', "line 2"),
        ("t.csv", "file,label\n" + "a" * 200_000 + ",b\n", "line 2"),
        ("t.jsonl", '{"a": 1}\n{"a": \n', "line 2 is not JSON"),
        ("t.jsonl", "[" * 100_000, "line 1 is not JSON"),
        ("t.jsonl", "[1, 2]", "line 1 is not a JSON object"),
        ("t.parquet", b"PAR1 this is no parquet file", "no Parquet"),
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
