"""What a source names: every recording once, in one order, by one name."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from xmoe.base.errors import DatasetError, InputError
from xmoe.batch.inputs import list_inputs, place_of
from xmoe.storage.place import open_place

NAMES = ("a.wav", "b/c.flac", "b/d/e.wav")


@pytest.fixture
def folder(tmp_path):
    for name in (*NAMES, "x.txt", ".hidden.wav", "README"):
        path = tmp_path / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "set"


def test_folder_is_searched_through(folder):
    inputs = list_inputs(str(folder))
    assert inputs.names == NAMES
    assert inputs.base == str(folder)
    assert inputs.notes == ("left out, by ending: .txt (1), none (1)",)


def test_store_is_searched_through(bucket):
    for name in (*NAMES, "x.txt"):
        (open_place(f"{bucket}/set") / name).write(b"")
    assert list_inputs(f"{bucket}/set").names == NAMES
    assert list_inputs(f"{bucket}/set/**/*.wav").names == ("a.wav", "b/d/e.wav")
    one = list_inputs(f"{bucket}/set/a.wav")
    assert (one.base, one.names) == (f"{bucket}/set", ("a.wav",))


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*.wav", ("a.wav",)),
        ("**/*.wav", ("a.wav", "b/d/e.wav")),
        ("b/*", ("c.flac",)),
        ("b/**", ("c.flac", "d/e.wav")),
        ("?.wav", ("a.wav",)),
        ("[!b].*", ("a.wav", "x.txt")),
        ("b/[a-d]/e.*", ("d/e.wav",)),
    ],
)
def test_patterns(folder, pattern, names):
    assert list_inputs(f"{folder}/{pattern}").names == names


def test_pattern_of_this_folder(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert list_inputs("*.wav").base == str(folder)


def test_file_whose_name_looks_like_a_pattern_is_that_file(folder):
    (folder / "a[1].wav").touch()
    assert list_inputs(f"{folder}/a[1].wav").names == ("a[1].wav",)


@pytest.mark.parametrize("kind", ["csv", "parquet", "jsonl"])
def test_table_names_each_recording_once(folder, kind):
    cells = ["b/c.flac", "./a.wav", "a.wav", str(folder / "a.wav"), "/else/where.wav", "s3://x/y"]
    path = folder / f"list.{kind}"
    if kind == "csv":
        path.write_text("n,filepath\n" + "".join(f"1,{cell}\n" for cell in cells))
    elif kind == "jsonl":
        path.write_text("".join(f'{{"file_name": "{cell}"}}\n' for cell in cells))
    else:
        pq.write_table(pa.table({"path": cells}), path)
    inputs = list_inputs(str(path))
    assert inputs.names == ("/else/where.wav", "a.wav", "b/c.flac", "s3://x/y")
    assert inputs.repeated == ("a.wav",)
    assert inputs.base == str(folder)


def test_table_of_another_machine(folder):
    (folder / "Su\u0308d.wav").touch()
    cells = ["b\\c.flac", "B/C.FLAC", "S\u00fcd.wav", ".\\a.wav"]
    (folder / "list.csv").write_bytes("\r\n".join(["File Name", *cells]).encode("utf-16"))
    inputs = list_inputs(str(folder / "list.csv"))
    assert inputs.names == ("Su\u0308d.wav", "a.wav", "b/c.flac")
    assert inputs.repeated == ("b/c.flac",)


def test_table_of_guessed_encoding_is_noted(folder):
    (folder / "list.csv").write_bytes("filepath\nn\u00f8.wav\n".encode("cp1252"))
    inputs = list_inputs(str(folder / "list.csv"))
    assert inputs.names == ("n\u00f8.wav",)
    assert "Windows-1252" in inputs.notes[0]


def test_table_in_a_store(bucket):
    text = f"filepath\na.wav\n{bucket}/set/a.wav\n/b.wav\n"
    open_place(f"{bucket}/set/list.csv").write(text.encode())
    inputs = list_inputs(f"{bucket}/set/list.csv")
    assert inputs.names == ("/b.wav", "a.wav")
    assert inputs.repeated == ("a.wav",)


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("a/b.wav", "s3://x/set/a/b.wav?region=r"),
        ("/a.wav", "/a.wav"),
        ("s3://other/a.wav", "s3://other/a.wav"),
    ],
)
def test_place_of_a_name(name, address):
    assert place_of("s3://x/set?region=r", name).address == address


@pytest.mark.parametrize(
    ("text", "words"),
    [("name,label\na,b\n", "no column 'filepath'"), ("n,filepath\n1,\n", "names no file")],
)
def test_tables_that_name_nothing(folder, text, words):
    (folder / "list.csv").write_text(text)
    with pytest.raises(DatasetError, match=words) as caught:
        list_inputs(str(folder / "list.csv"))
    assert "list.csv" in caught.value.where


@pytest.mark.parametrize("source", ["none", "none/*.wav", "*.mp3"])
def test_source_without_recordings(folder, source):
    with pytest.raises(InputError) as caught:
        list_inputs(f"{folder}/{source}")
    assert caught.value.mend


def test_empty_folder(tmp_path):
    with pytest.raises(DatasetError, match="no recordings were found"):
        list_inputs(str(tmp_path))


def test_name_that_no_table_can_hold(folder):
    (folder / "a\udcff.wav").touch()
    with pytest.raises(DatasetError, match="not UTF-8") as caught:
        list_inputs(str(folder))
    assert "rename" in (caught.value.mend or "")


def test_table_with_a_column_of_folders(folder):
    first, second = sorted(path.relative_to(folder) for path in folder.rglob("*.wav"))[:2]
    rows = "".join(f"{path.name},{path.parent}\n" for path in (first, second))
    (folder / "list.csv").write_text(f"file,folder\n{rows}")
    assert list_inputs(str(folder / "list.csv")).names == (str(first), str(second))
