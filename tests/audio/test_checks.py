"""Checks: each planted fault is found, under its code, and a sound data set has none."""

import os

import pytest

from xmoe.audio.checks import RULES, Finding, check_content, check_manifest, raise_on_errors
from xmoe.audio.dataset import Dataset, Example
from xmoe.base.errors import DatasetError

SOUND = (("a.wav", "train", "x"), ("b.wav", "train", "y"), ("c.wav", "test", "x"))


def codes(findings: list[Finding]) -> set[str]:
    return {finding.code for finding in findings}


@pytest.fixture
def check(make_dataset, tmp_path):
    """Return a function that makes the files, plants rows and gives the findings by code."""

    def run(*rows: tuple) -> dict[str, Finding]:
        for path, *_ in rows:
            if path[0] != "/" and ".." not in path and not os.path.lexists(tmp_path / path):
                (tmp_path / path).touch()
        return {finding.code: finding for finding in check_manifest(make_dataset(*rows))}

    return run


def test_a_sound_set_has_no_errors(check):
    assert set(check(*SOUND)) == {"class_not_in_test"}
    assert check(*SOUND, ("d.wav", "test", "y")) == {}


@pytest.mark.parametrize("path", ["../x.wav", "/etc/hostname", "sub/../../x.wav"])
def test_paths_that_leave_the_root(check, path):
    assert check(*SOUND, (path, "train", "x"))["leaves_root"].files == (path,)


def test_links_that_leave_the_root_even_if_they_lead_nowhere(check, tmp_path):
    (tmp_path / "out.wav").symlink_to("/etc/hostname")
    (tmp_path / "gone.wav").symlink_to("/nowhere/at/all.wav")
    (tmp_path / "inside.wav").symlink_to("a.wav")
    rows = [(name, "train", "x") for name in ("out.wav", "gone.wav", "inside.wav")]
    found = check(*SOUND, *rows)
    assert found["leaves_root"].files == ("gone.wav", "out.wav")
    assert found["leaves_root"].severity == "error"


def test_linked_folders_that_leave_the_root(check, tmp_path, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    (other / "a.wav").touch()
    (tmp_path / "sub").symlink_to(other)
    assert check(*SOUND, ("sub/a.wav", "train", "x"))["leaves_root"].files == ("sub/a.wav",)


def test_link_loops(check, tmp_path):
    (tmp_path / "loop.wav").symlink_to("pool.wav")
    (tmp_path / "pool.wav").symlink_to("loop.wav")
    assert check(*SOUND, ("loop.wav", "train", "x"))["link_loop"].severity == "error"


def test_pipes_and_folders(check, tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "folder.wav").mkdir()
    found = check(*SOUND, ("pipe.wav", "train", "x"), ("folder.wav", "train", "x"))
    assert found["not_a_file"].files == ("folder.wav", "pipe.wav")


def test_missing_files_are_a_warning_unless_all_are(make_dataset, tmp_path):
    data = make_dataset(*SOUND)
    assert "all_missing" in codes(check_manifest(data))
    (tmp_path / "a.wav").touch()
    (found,) = (f for f in check_manifest(data) if f.code == "missing")
    assert (found.severity, found.files) == ("warning", ("b.wav", "c.wav"))


def test_names_that_look_the_same(check):
    found = check(*SOUND, ("\u00e9.wav", "train", "x"), ("e\u0301.wav", "train", "y"))
    assert found["unicode_twins"].files == ("e\u0301.wav", "\u00e9.wav")


def test_clips_listed_twice(check):
    found = check(*SOUND, ("a.wav", "train", "x"), ("b.wav", "train", "x"))
    assert found["listed_twice"].files == ("a.wav",)
    assert found["two_labels"].files == ("b.wav",)


def test_the_order_of_labels_is_no_dispute(check):
    found = check(*SOUND, ("m.wav", "train", "x;y"), ("m.wav", "train", "y;x"))
    assert "two_labels" not in found


def test_groups_on_both_sides(check):
    rows = [
        ("1.wav", "train", "x", {"group": "ship 1"}),
        ("2.wav", "test", "x", {"group": "ship 1"}),
        ("3.wav", "train", "y", {"group": "ship 2"}),
        ("4.wav", "val", "y", {"group": "ship 2"}),
        ("5.wav", "train", "y", {"group": "ship 3"}),
    ]
    found = check(*rows)
    assert found["group_in_test_and_train"].files == ("ship 1",)
    assert found["group_in_val_and_train"].files == ("ship 2",)
    assert found["group_in_val_and_train"].severity == "warning"


@pytest.mark.parametrize(
    ("train", "test", "code"),
    [
        ((0.0, 3.0), (2.0, 5.0), "overlap_of_test_and_train"),
        ((0.0, None), (2.0, 5.0), "overlap_of_test_and_train"),
        ((2.0, 5.0), (0.0, 3.0), "overlap_of_test_and_train"),
        ((1.0, 2.0), (0.0, 5.0), "overlap_of_test_and_train"),
        ((0.0, 2.0), (2.0, 5.0), "file_in_test_and_train"),
    ],
)
def test_parts_of_one_file_on_both_sides(check, train, test, code):
    parts = [dict(zip(("start_s", "end_s"), part, strict=True)) for part in (train, test)]
    found = check(*SOUND, ("l.wav", "train", "x", parts[0]), ("l.wav", "test", "x", parts[1]))
    assert found[code].files == ("l.wav",)
    assert not {"overlap_of_test_and_train", "file_in_test_and_train"} & set(found) - {code}


def test_parts_of_one_file_on_one_side_may_overlap(check):
    parts = [{"start_s": 0.0, "end_s": 2.0}, {"start_s": 1.0, "end_s": 3.0}]
    rows = [("l.wav", "test", "x", part) for part in parts]
    assert "overlap_of_test_and_train" not in check(*SOUND, *rows)


def test_classes(check):
    assert check(("a.wav", "train", "x"))["one_class"].severity == "error"
    found = check(*SOUND, ("d.wav", "test", "z"))
    assert found["class_not_in_train"].files == ("z",)
    assert found["class_not_in_test"].files == ("y",)
    assert check(("a.wav", "test", "x")) == {}


def test_errors_come_first(check):
    found = list(check(*SOUND, ("a.wav", "train", "x")).values())
    assert [finding.severity for finding in found] == ["error", "warning"]


def test_the_same_content(make_dataset):
    data = make_dataset(
        ("1.wav", "train", "x"),
        ("2.wav", "test", "x"),
        ("3.wav", "train", "x"),
        ("4.wav", "train", "y"),
        ("5.wav", "train", "y"),
        ("6.wav", "val", "y"),
        ("7.wav", "train", "x"),
    )
    hashes = {"1.wav": "A", "2.wav": "A", "3.wav": "B", "4.wav": "B", "5.wav": "C", "6.wav": "C"}
    found = {finding.code: finding for finding in check_content(data, hashes)}
    assert found["content_in_test_and_train"].files == ("1.wav", "2.wav")
    assert found["content_with_two_labels"].files == ("3.wav", "4.wav")
    assert found["content_twice"].files == ("5.wav", "6.wav")
    assert check_content(data, {}) == []


def test_dead_recordings_are_silent_and_no_copies_of_each_other(make_dataset):
    data = make_dataset(("1.wav", "train", "x"), ("2.wav", "test", "y"), ("3.wav", "train", "x"))
    (found,) = check_content(data, {"1.wav": "0", "2.wav": "0", "3.wav": "A"}, {"1.wav", "2.wav"})
    assert (found.code, found.severity, found.files) == ("silent", "warning", ("1.wav", "2.wav"))
    assert "hold no sound" in str(found)


def test_a_clip_is_no_copy_of_itself(make_dataset):
    data = make_dataset(("1.wav", "train", "x"), ("1.wav", "train", "x"))
    assert check_content(data, {"1.wav": "A"}) == []


def test_every_planted_copy_is_found(make_dataset):
    rows = [(f"{i}.wav", "train" if i < 80 else "test", "x") for i in range(100)]
    hashes = {f"{i}.wav": str(i % 80) for i in range(100)}
    (found,) = check_content(make_dataset(*rows), hashes)
    assert len(found.files) == 40


def test_errors_are_raised_together_and_warnings_are_not(check):
    found = list(check(*SOUND, ("a.wav", "train", "x"), ("b.wav", "train", "x")).values())
    with pytest.raises(DatasetError) as caught:
        raise_on_errors(found)
    assert len(caught.value.what.splitlines()) == 2
    raise_on_errors([finding for finding in found if finding.severity == "warning"])


def test_findings_read_as_sentences():
    files = tuple(f"{i}.wav" for i in range(5))
    finding = Finding("error", "listed_twice", RULES["listed_twice"][1], files, "keep one")
    assert str(finding) == (
        "clips are listed more than once: 0.wav, 1.wav, 2.wav and 2 more (keep one)"
    )


def test_a_snapshot_of_the_hub_is_links_to_the_blobs_beside_it(tmp_path):
    root = tmp_path / "datasets--x--y" / "snapshots" / "abc"
    blobs, elsewhere = tmp_path / "datasets--x--y" / "blobs", tmp_path / "elsewhere"
    for index, folder in enumerate((blobs, blobs, blobs, elsewhere)):
        folder.mkdir(exist_ok=True, parents=True)
        (root / "data").mkdir(exist_ok=True, parents=True)
        (folder / f"{index}").touch()
        (root / "data" / f"{index}.wav").symlink_to(folder / f"{index}")
    (blobs / "2").unlink()
    examples = tuple(
        Example(f"data/{i}.wav", split, (label,))
        for i, (split, label) in enumerate(
            [("train", "a"), ("test", "b"), ("val", "a"), ("val", "b")]
        )
    )
    found = {
        finding.code: finding.files
        for finding in check_manifest(Dataset(root, examples, ("a", "b"), "single_label"))
    }
    assert found["leaves_root"] == ("data/3.wav",)
    assert found["missing"] == ("data/2.wav",)


def test_classes_that_differ_only_in_dress_are_named(make_dataset):
    rows = [(f"{i}.wav", "train", name) for i, name in enumerate(("Dog", "dog", "sea gull", "cat"))]
    found = check_manifest(make_dataset(*rows, ("9.wav", "test", "sea_gull")))
    (alike,) = [finding for finding in found if finding.code == "classes_alike"]
    assert alike.files == ("Dog", "dog", "sea gull", "sea_gull")
    assert alike.severity == "warning"
