"""Data sets: splits, folds, classes and targets, and the notes that say what was assumed."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from xmoe.audio.checks import check_manifest
from xmoe.audio.dataset import Example, load_dataset, natural_key
from xmoe.base.errors import DatasetError


def manifest(root: Path, header: str, *rows: str) -> Path:
    (root / "metadata.csv").write_text("\n".join((header, *rows)), encoding="utf-8")
    return root


def sides(examples: tuple[Example, ...]) -> Counter:
    return Counter(example.split for example in examples)


def test_given_splits_are_kept(tmp_path):
    rows = ("a.wav,train,x", "b.wav,val,y", "c.wav,test,x")
    data = load_dataset(manifest(tmp_path, "filepath,split,label", *rows))
    assert [example.filepath for example in data.split("val")] == ["b.wav"]
    assert (data.classes, data.task, data.notes) == (("x", "y"), "single_label", ())
    assert data.root == tmp_path.resolve()


def test_classes_are_sorted_as_people_count(tmp_path):
    rows = [f"{i}.wav,train,{name}" for i, name in enumerate(("10", "9", "b2", "b10", "a"))]
    rows += ["v.wav,val,9", "t.wav,test,9"]
    data = load_dataset(manifest(tmp_path, "filepath,split,label", *rows))
    assert data.classes == ("9", "10", "a", "b2", "b10")
    assert sorted(["x", "1", "01", "-1"], key=natural_key) == ["01", "1", "-1", "x"]


def test_targets_of_one_label_are_indices(tmp_path):
    rows = ("a.wav,train,y", "b.wav,val,x", "c.wav,test,y")
    data = load_dataset(manifest(tmp_path, "filepath,split,label", *rows))
    targets = data.targets(data.examples)
    assert targets.dtype == np.int64
    np.testing.assert_array_equal(targets, [1, 0, 1])


def test_targets_of_several_labels_are_rows(tmp_path):
    rows = ("a.wav,train,y;x", "b.wav,val,z", "c.wav,test,")
    data = load_dataset(manifest(tmp_path, "filepath,split,label", *rows))
    targets = data.targets(data.examples)
    assert (data.task, targets.dtype) == ("multi_label", np.float32)
    np.testing.assert_array_equal(targets, [[1, 1, 0], [0, 0, 1], [0, 0, 0]])
    assert data.targets(()).shape == (0, 3)


def test_several_labels_may_be_asked_for(tmp_path):
    root = manifest(tmp_path, "filepath,split,label", "a.wav,test,x", "b.wav,test,y")
    assert load_dataset(root, task="multi_label").targets(()).shape == (0, 2)


@pytest.mark.parametrize("labels", ["x;y", ""])
def test_one_label_is_one_label(tmp_path, labels):
    root = manifest(tmp_path, "filepath,split,label", "a.wav,test,x", f"b.wav,test,{labels}")
    with pytest.raises(DatasetError, match=r"b\.wav has \d labels") as caught:
        load_dataset(root, task="single_label")
    assert caught.value.where.endswith("metadata.csv line 3")


def test_no_label_anywhere_is_refused(tmp_path):
    root = manifest(tmp_path, "filepath,split,label", "a.wav,test,")
    with pytest.raises(DatasetError, match="no recording has a label"):
        load_dataset(root, task="multi_label")


def test_a_missing_val_split_is_made_of_whole_groups_and_noted(tmp_path):
    rows = [f"{i}.wav,train,{'xy'[i % 2]},ship{i // 4}" for i in range(160)]
    rows += ["t.wav,test,x,other"]
    data = load_dataset(manifest(tmp_path, "filepath,split,label,group", *rows))
    assert sides(data.examples) == {"train": 136, "val": 24, "test": 1}
    groups = {split: {e.group for e in data.split(split)} for split in ("train", "val")}
    assert not groups["train"] & groups["val"]
    assert Counter(e.labels for e in data.split("val")) == {("x",): 12, ("y",): 12}
    (note,) = data.notes
    assert note.startswith("no val split was given: 24 of 160 clips")
    assert "groups kept whole" in note


def test_without_any_split_test_and_val_are_made(tmp_path):
    for i in range(40):
        path = tmp_path / "xy"[i % 2] / f"{i}.wav"
        path.parent.mkdir(exist_ok=True)
        path.touch()
    data = load_dataset(tmp_path, val_fraction=0.2)
    assert sides(data.examples) == {"train": 26, "val": 6, "test": 8}
    assert [note.split(":")[0] for note in data.notes] == [
        "no manifest",
        "no test split was given",
        "no val split was given",
    ]
    assert load_dataset(tmp_path, val_fraction=0.2) == data
    assert load_dataset(tmp_path, val_fraction=0.2, seed=1).examples != data.examples


def test_parts_of_one_file_stay_together(tmp_path):
    rows = [f"{i // 5}.wav,{'xy'[i // 5 % 2]},{i % 5},{i % 5 + 1}" for i in range(100)]
    data = load_dataset(manifest(tmp_path, "filepath,label,start_s,end_s", *rows))
    files = [{e.filepath for e in data.split(split)} for split in ("train", "val", "test")]
    assert sum(len(names) for names in files) == len(set.union(*files)) == 20
    assert data.examples[0].clip_id == "0.wav@0-1"
    assert "parts of one file kept together" in data.notes[0]


def test_a_test_set_alone_stays_one(tmp_path):
    data = load_dataset(manifest(tmp_path, "filepath,split,label", "a.wav,test,x"))
    assert (sides(data.examples), data.notes) == ({"test": 1}, ())


def test_a_split_that_cannot_be_made_is_an_error(tmp_path):
    root = manifest(tmp_path, "filepath,label", "a.wav,x", "b.wav,y")
    with pytest.raises(DatasetError, match="none can be made"):
        load_dataset(root)


def esc50(root: Path) -> Path:
    rows = [f"{i}.wav,{i % 5 + 1},{['dog', 'cat'][i // 5 % 2]}" for i in range(100)]
    (root / "audio").mkdir()
    (root / "esc50.csv").write_text("\n".join(("filename,fold,category", *rows)))
    return root


def test_folds_choose_the_test_set_and_val_is_a_whole_fold(tmp_path):
    data = load_dataset(esc50(tmp_path), test_fold=2)
    assert sides(data.examples) == {"train": 60, "val": 20, "test": 20}
    assert {e.group for e in data.split("test")} == {"fold 2"}
    assert len({e.group for e in data.split("val")}) == 1
    assert data.examples[0].filepath == "audio/0.wav"


def test_the_last_fold_tests_if_none_is_chosen(tmp_path):
    data = load_dataset(esc50(tmp_path))
    assert {e.group for e in data.split("test")} == {"fold 5"}
    assert "no test fold was chosen: fold 5 is the test set" in data.notes


def test_folds_that_are_not_there_are_refused(tmp_path):
    with pytest.raises(DatasetError, match="no fold 7; the folds are 1, 2, 3, 4, 5"):
        load_dataset(esc50(tmp_path), test_fold=7)
    root = manifest(tmp_path, "filepath,split,label", "a.wav,test,x")
    with pytest.raises(DatasetError, match="not every row has a 'fold'"):
        load_dataset(root, root / "metadata.csv", test_fold=1)


def test_a_chosen_fold_overrides_a_split_column(tmp_path):
    rows = [f"{i}.wav,train,{'xy'[i // 5 % 2]},{i % 5}" for i in range(50)]
    root = manifest(tmp_path, "filepath,split,label,fold", *rows)
    assert {e.group for e in load_dataset(root, test_fold=0).split("test")} == {"fold 0"}
    assert {e.group for e in load_dataset(root).split("test")} == {None}


@pytest.mark.parametrize("filepath", ["../a.wav", "/etc/passwd", "x/../../a.wav"])
def test_paths_that_leave_the_root_are_not_given_out(make_dataset, filepath):
    data = make_dataset((filepath, "test", "x"))
    with pytest.raises(DatasetError, match="leaves the data set"):
        data.path(data.examples[0])


def test_paths_and_ids(make_dataset, tmp_path):
    data = make_dataset(("d/a.wav", "test", "x"), ("d/a.wav", "test", "x", {"start_s": 1 / 3}))
    whole, part = data.examples
    assert data.path(part) == tmp_path / "d" / "a.wav"
    assert (whole.clip_id, part.clip_id) == ("d/a.wav", "d/a.wav@0.3333333333-")
    with pytest.raises(DatasetError, match="no split 'tset'"):
        data.split("tset")


@pytest.mark.parametrize("fraction", [0.0, 0.5, -1.0])
def test_fractions_outside_reason_are_refused(tmp_path, fraction):
    with pytest.raises(DatasetError, match="val_fraction"):
        load_dataset(tmp_path, val_fraction=fraction)


def test_real_manifests_load(real_data):
    num_classes = {"fsdd": 10, "esc10": 10, "insect32": 32, "deepship2": 2}
    for name, classes in num_classes.items():
        for path in sorted((real_data / name).glob("metadata*.csv")):
            data = load_dataset(real_data / name, path)
            assert len(data.classes) == classes, path
            assert set(sides(data.examples)) == {"train", "val", "test"}, path
            errors = [f for f in check_manifest(data) if f.severity == "error"]
            assert errors == [], path


def copied_set(root: Path, *, copies: int) -> Path:
    """Two classes of 20 files, of which the first ``copies`` of class x are there twice."""
    for index in range(40):
        folder = root / "xy"[index % 2]
        folder.mkdir(exist_ok=True)
        (folder / f"{index:02d}.wav").write_bytes(bytes([index]) * 400)
    for index in range(0, 2 * copies, 2):
        copy = root / "x" / f"{index:02d} (copy).wav"
        copy.write_bytes((root / "x" / f"{index:02d}.wav").read_bytes())
    return root


@pytest.mark.parametrize("seed", range(5))
def test_copies_stay_on_one_side_of_a_split_that_is_made(tmp_path, seed):
    data = load_dataset(copied_set(tmp_path, copies=12), seed=seed)
    assert set(sides(data.examples)) == {"train", "val", "test"}
    side = {example.filepath: example.split for example in data.examples}
    pairs = [(name, name.replace(" (copy)", "")) for name in side if "copy" in name]
    assert len(pairs) == 12
    assert all(side[copy] == side[original] for copy, original in pairs)
    (note,) = [note for note in data.notes if "copies" in note]
    assert note.startswith("12 files are copies of others, byte for byte (x/00.wav, x/02.wav,")


def test_copies_across_a_split_that_was_given_are_left_to_the_check_of_content(tmp_path):
    root = copied_set(tmp_path, copies=1)
    names = ("x/00.wav,train,x", "x/00 (copy).wav,test,x", "y/01.wav,val,y")
    data = load_dataset(manifest(root, "filepath,split,label", *names))
    assert [example.copy_of for example in data.examples] == [None, None, None]
    assert data.notes == ()


def test_groups_say_more_than_copies(tmp_path):
    root = copied_set(tmp_path, copies=1)
    rows = [f"x/{i:02d}.wav,x,g{i}" for i in range(0, 40, 2)]
    rows += [f"y/{i:02d}.wav,y,g{i}" for i in range(1, 40, 2)] + ["x/00 (copy).wav,x,other"]
    data = load_dataset(manifest(root, "filepath,label,group", *rows))
    assert {example.copy_of for example in data.examples} == {None}
