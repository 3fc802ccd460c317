"""Layouts: each accepted form of a data set reads as the same entries; each flaw names its row."""

import os
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from xmoe.audio.layouts import read_layout
from xmoe.base.errors import DatasetError


def write(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return root


def summary(root: Path, metadata: Path | None = None) -> list[tuple]:
    layout = read_layout(root, metadata)
    return [(entry.filepath, entry.split, entry.labels) for entry in layout.entries]


WANTED = [("train/a.wav", "train", ("x",)), ("test/b.wav", "test", ("y",))]


@pytest.mark.parametrize(
    "files",
    [
        {"metadata.csv": "filepath,split,label\ntrain/a.wav,train,x\ntest/b.wav,test,y\n"},
        {"metadata.csv": "file_name,label,split\ntrain/a.wav,x,Training\ntest/b.wav,y,EVAL\n"},
        {"metadata.csv": "path,class,split\ntrain\\a.wav,x,train\n./test//b.wav,y,test\n"},
        {
            "metadata.jsonl": '{"file_name": "train/a.wav", "split": "train", "label": "x"}\n'
            '{"file_name": "test/b.wav", "split": "test", "label": "y"}\n'
        },
        {
            "train/metadata.csv": "file_name,label\na.wav,x\n",
            "test/metadata.jsonl": '{"file_name": "b.wav", "label": "y"}',
        },
    ],
)
def test_manifests_read_the_same(tmp_path, files):
    assert sorted(summary(write(tmp_path, files)), reverse=True) == WANTED


def test_parquet_reads_the_same(tmp_path):
    columns = {
        "filepath": ["train/a.wav", "test/b.wav"],
        "split": ["train", "test"],
        "label": ["x", "y"],
    }
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "metadata.parquet")
    assert summary(tmp_path) == WANTED


def test_a_manifest_may_be_named_from_anywhere(tmp_path):
    root = write(tmp_path, {"lists/mine.csv": "filepath,label\na.wav,x\n"})
    wanted = [("a.wav", None, ("x",))]
    assert summary(root, root / "lists" / "mine.csv") == wanted
    assert summary(root, Path("lists/mine.csv")) == wanted


def test_parts_and_groups_are_read(tmp_path):
    text = "filepath,label,start_s,end_s,group\na.wav,x,1.5,2,ship 3\nb.wav,x,,,\n"
    first, second = read_layout(write(tmp_path, {"metadata.csv": text})).entries
    assert (first.start_s, first.end_s, first.group, first.row) == (1.5, 2.0, "ship 3", 2)
    assert (second.start_s, second.end_s, second.group, second.row) == (0.0, None, None, 3)


@pytest.mark.parametrize("missing", ["", "NaN", "NA", "null", "None", "-"])
def test_decimal_commas_and_missing_numbers_are_understood(tmp_path, missing):
    text = (
        f"filepath;Label;Start_S;End s;Fold\na.wav;x;0,1;0,25;1,0\nb.wav;y;{missing};{missing};2\n"
    )
    first, second = read_layout(write(tmp_path, {"metadata.csv": text})).entries
    assert (first.start_s, first.end_s, first.fold) == (0.1, 0.25, 1)
    assert (second.start_s, second.end_s, second.fold) == (0.0, None, 2)


def test_a_guessed_encoding_is_noted(tmp_path):
    (tmp_path / "metadata.csv").write_bytes("filepath,label\na.wav,Grünfink\n".encode("cp1252"))
    layout = read_layout(tmp_path)
    assert layout.entries[0].labels == ("Grünfink",)
    assert "read as Windows-1252" in layout.notes[0]


def test_labels_are_split_trimmed_and_brought_to_one_unicode_form(tmp_path):
    text = "filepath,label\na.wav, dog ; cat;dog;\nb.wav,e\u0301\n"
    first, second = read_layout(write(tmp_path, {"metadata.csv": text})).entries
    assert first.labels == ("dog", "cat")
    assert second.labels == ("\u00e9",)


def test_esc50_is_known_by_its_columns(tmp_path):
    text = "filename,fold,target,category,src_file\n1-100-A.wav,1,0,dog,100\n"
    root = write(tmp_path, {"meta/esc50.csv": text, "audio/1-100-A.wav": ""})
    (entry,) = read_layout(root).entries
    assert (entry.filepath, entry.fold, entry.labels) == ("audio/1-100-A.wav", 1, ("dog",))
    assert (entry.split, entry.group) == (None, "100")


def test_class_folders(tmp_path):
    root = write(
        tmp_path, {"dog/2.WAV": "", "dog/deep/1.flac": "", "cat/3.mp3": "", "cat/x.txt": ""}
    )
    write(root, {"dog/.hidden.wav": "", ".git/y.wav": "", "readme.md": ""})
    layout = read_layout(root)
    assert [(entry.filepath, entry.labels) for entry in layout.entries] == [
        ("cat/3.mp3", ("cat",)),
        ("dog/2.WAV", ("dog",)),
        ("dog/deep/1.flac", ("dog",)),
    ]
    assert "left out, by ending: .md (1), .txt (1)" in layout.notes
    assert "subfolders of a class, not classes: dog/deep" in layout.notes


@pytest.mark.parametrize(
    ("names", "labels", "note"),
    [
        ("a/0 a/north/1 a/south/day/2 b/3", "a b", "not classes: a/north, a/south/day"),
        ("train/a/0 train/a/north/1 test/b/2", "a b", "not classes: train/a/north"),
        ("x/a/0 x/b/1 y/a/2", "a b", "last is the class: x/a, x/b, y/a; where"),
        ("a/0 b/north/1 b/south/2", "a north south", "last is the class: b/north, b/south; where"),
    ],
)
def test_folders_in_class_folders(tmp_path, names, labels, note):
    layout = read_layout(write(tmp_path, {f"{name}.wav": "" for name in names.split()}))
    assert len(layout.entries) == len(names.split())
    assert " ".join(sorted({entry.labels[0] for entry in layout.entries})) == labels
    assert note in layout.notes[1]


def test_a_class_may_be_named_like_a_split(tmp_path):
    root = write(tmp_path, {"train/0.wav": "", "bus/0.wav": "", "car/far/0.wav": ""})
    layout = read_layout(root)
    assert {entry.labels for entry in layout.entries} == {("train",), ("bus",), ("far",)}
    assert {entry.split for entry in layout.entries} == {None}
    assert layout.notes[1] == "taken for a class: train"
    write(root, {"test/x/0.wav": "", "train/x/1.wav": ""})
    (root / "train" / "0.wav").unlink()
    layout = read_layout(root)
    assert {entry.split for entry in layout.entries} == {"train", "test"}
    assert layout.notes[1] == "left out, beside the folders of splits: bus (1), car (1)"


def test_a_class_that_cannot_be_told_from_a_split_is_refused(tmp_path):
    names = [f"{kind}/{site}/0.wav" for kind in ("train", "bus") for site in ("north", "south")]
    with pytest.raises(DatasetError, match=r"train is named like a split.*bus \(2\)") as caught:
        read_layout(write(tmp_path, dict.fromkeys(names, "")))
    assert "rename it" in (caught.value.mend or "")


def test_paths_of_another_machine_are_found(tmp_path):
    name = "S\u00fc\u00df.wav"
    decomposed = "Su\u0308\u00df.wav"
    cells = [f"audio\\{name}", f"{tmp_path}/audio/{name}", f".\\AUDIO/{name}", f"audio/{name}"]
    text = "filepath,label\n" + "".join(f"{cell},x\n" for cell in cells)
    root = write(tmp_path, {f"audio/{decomposed}": "", "metadata.csv": text})
    assert {entry.filepath for entry in read_layout(root).entries} == {f"audio/{decomposed}"}


@pytest.mark.parametrize("prefix", ["", "data/"])
def test_split_folders_of_class_folders(tmp_path, prefix):
    names = ("train/x/a.wav", "validation/x/b.wav", "test/y/c.wav")
    root = write(tmp_path, {prefix + name: "" for name in names})
    assert sorted(entry[1:] for entry in summary(root)) == [
        ("test", ("y",)),
        ("train", ("x",)),
        ("val", ("x",)),
    ]


def test_linked_folders_are_not_followed_but_noted(tmp_path):
    root = write(tmp_path, {"set/dog/a.wav": "", "other/b.wav": ""})
    (root / "set" / "cat").symlink_to(root / "other")
    layout = read_layout(root / "set")
    assert [entry.filepath for entry in layout.entries] == ["dog/a.wav"]
    assert "linked folders (1)" in layout.notes[-1]


@pytest.mark.parametrize(
    ("text", "where", "message"),
    [
        ("label,split\nx,train\n", "metadata.csv", "no column 'filepath'.*label, split"),
        ("filepath,split\na.wav,train\n", "metadata.csv", "no column 'label'"),
        ("filepath,split,label\na.wav,extra,x\n", "metadata.csv line 2", "'split' holds 'extra'"),
        ("filepath,split,label\na.wav,,x\n", "metadata.csv line 2", "'split' holds ''"),
        ("filepath,label\na.wav,x\n,y\n", "metadata.csv line 3", "'filepath' holds no path"),
        ("filepath,label,fold\na.wav,x,one\n", "metadata.csv line 2", "'fold' holds 'one'"),
        ("filepath,label,start_s\na.wav,x,inf\n", "metadata.csv line 2", "'start_s' holds 'inf'"),
        ('filepath,label,end_s\na.wav,x,"1.234,5"\n', "metadata.csv line 2", "like 1.5"),
        ("filepath,label,start_s\na.wav,x,-1\n", "metadata.csv line 2", "'start_s' holds '-1'"),
        ("filepath,label,end_s\na.wav,x,soon\n", "metadata.csv line 2", "'end_s' holds 'soon'"),
        ("filepath,label,start_s,end_s\na.wav,x,2,1\n", "metadata.csv line 2", "not after"),
    ],
)
def test_flaws_name_row_column_and_remedy(tmp_path, text, where, message):
    with pytest.raises(DatasetError, match=message) as caught:
        read_layout(write(tmp_path, {"metadata.csv": text}))
    assert caught.value.where == f"{tmp_path}/{where}"
    assert caught.value.mend


def test_a_folder_without_recordings_or_classes_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="no such folder"):
        read_layout(tmp_path / "none")
    with pytest.raises(DatasetError, match="no recordings"):
        read_layout(tmp_path)
    with pytest.raises(DatasetError, match="no class") as caught:
        read_layout(write(tmp_path, {"a.wav": ""}))
    assert caught.value.where == f"{tmp_path}/a.wav"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_closed_folder_is_named(tmp_path):
    write(tmp_path, {"dog/a.wav": "", "cat/b.wav": ""})
    (tmp_path / "cat").chmod(0)
    with pytest.raises(DatasetError, match="permission denied"):
        read_layout(tmp_path)
    (tmp_path / "cat").chmod(0o700)


def test_the_folder_of_a_file_may_stand_beside_its_name(tmp_path):
    files = {"site_a/1.wav": "", "site_b/1.wav": "", "site_b/deep/2.wav": "", "1.wav": ""}
    text = "file,folder,label\n1.wav,site_a,x\n1.wav,site_b,y\ndeep\\2.wav,site_b,y\n1.wav,,x\n"
    layout = read_layout(write(tmp_path, files | {"metadata.csv": text}))
    assert [entry.filepath for entry in layout.entries] == [
        "site_a/1.wav",
        "site_b/1.wav",
        "site_b/deep/2.wav",
        "1.wav",
    ]


def test_a_file_that_its_folder_lacks_is_missing_and_no_other_is_taken(tmp_path):
    files = {"site_a/1.wav": "", "1.wav": ""}
    text = "file,folder,label\n1.wav,site_a,x\n1.wav,site_b,y\n"
    layout = read_layout(write(tmp_path, files | {"metadata.csv": text}))
    assert [entry.filepath for entry in layout.entries] == ["site_a/1.wav", "site_b/1.wav"]


def test_a_column_of_folders_that_means_something_else_is_left_alone(tmp_path):
    files = {"audio/1.wav": "", "audio/2.wav": ""}
    text = "file,folder,label\naudio/1.wav,audio,x\naudio/2.wav,/mnt/old,y\n"
    layout = read_layout(write(tmp_path, files | {"metadata.csv": text}))
    assert [entry.filepath for entry in layout.entries] == ["audio/1.wav", "audio/2.wav"]


def test_urbansound8k_is_known_by_its_columns(tmp_path):
    text = (
        "slice_file_name,fsID,start,end,salience,fold,classID,class\n"
        "100032-3-0-0.wav,100032,0.0,0.317551,1,5,3,dog_bark\n"
        "100263-2-0-117.wav,100263,58.5,62.5,1,5,2,children_playing\n"
    )
    files = {"audio/fold5/100032-3-0-0.wav": "", "audio/fold5/100263-2-0-117.wav": ""}
    layout = read_layout(write(tmp_path, files | {"metadata/UrbanSound8K.csv": text}))
    first, second = layout.entries
    assert (first.filepath, first.labels) == ("audio/fold5/100032-3-0-0.wav", ("dog_bark",))
    assert (first.fold, first.group, first.start_s, first.end_s) == (5, "100032", 0.0, None)
    assert second.filepath == "audio/fold5/100263-2-0-117.wav"
    assert "UrbanSound8K's table" in layout.notes[0]
