"""A data set in an object store is the set of the same files on a disk, byte for byte."""

import csv
from dataclasses import replace

import numpy as np
import pytest
import soundfile as sf

from tests.fixtures.stores import note_gets, upload
from xmoe.audio.checks import check_manifest
from xmoe.audio.dataset import empty_dataset, load_dataset, load_more
from xmoe.audio.remote import locate
from xmoe.audio.store import load_clips
from xmoe.base.errors import DatasetError, InputError
from xmoe.base.files import to_json
from xmoe.profile.assemble import profile_dataset
from xmoe.storage.mirror import local_path
from xmoe.storage.place import open_place

RATE_HZ = 8000


def write_set(root, names):
    """Write a recording for each (name, label), without a manifest."""
    for index, (name, _) in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = 0.1 * np.random.default_rng(index).standard_normal(RATE_HZ // 4 + index)
        sf.write(path, noise, RATE_HZ, subtype="PCM_16", format="WAV")
    return root


def write_manifest(path, rows):
    with path.open("w", newline="") as handle:
        csv.writer(handle).writerows([("filepath", "split", "label"), *rows])


NAMES = [(f"sounds/{index:02d}.wav", "ab"[index % 2]) for index in range(18)]
SPLITS = ("train", "train", "train", "train", "val", "test")


@pytest.fixture
def folder(tmp_path):
    root = write_set(tmp_path / "set", NAMES)
    rows = [(name, SPLITS[i // 2 % 6], label) for i, (name, label) in enumerate(NAMES)]
    write_manifest(root / "metadata.csv", [*rows, ("sounds/gone.wav", "train", "a")])
    (root / "sounds/bad.wav").write_bytes(b"nonsense" * 20)
    with (root / "metadata.csv").open("a") as handle:
        handle.write("sounds/bad.wav,train,b\n")
    (root / "notes.txt").write_text("not fetched")
    return root


def test_profile_has_the_bytes_of_the_local_one(folder, bucket):
    far = load_dataset(upload(folder, f"{bucket}/set"))
    here = load_dataset(folder)
    assert (far.examples, far.classes, far.notes) == (here.examples, here.classes, here.notes)
    assert far.source == f"{bucket}/set"
    theirs, ours = profile_dataset(far), profile_dataset(here)
    assert to_json(theirs.profile) == to_json(ours.profile)
    assert theirs.quarantined == ours.quarantined
    assert [row.code for row in ours.quarantined] == ["not_audio", "missing"]
    assert list(map(str, check_manifest(far))) == list(map(str, check_manifest(here)))
    assert not (far.root / "notes.txt").exists()


def test_class_folders_in_a_store_are_read_and_split_alike(tmp_path, bucket):
    root = write_set(tmp_path / "set", [(f"{label}/{name[7:]}", label) for name, label in NAMES])
    far, here = load_dataset(upload(root, f"{bucket}/set")), load_dataset(root)
    assert (far.examples, far.notes) == (here.examples, here.notes)


def test_manifest_at_an_address_of_its_own(folder, bucket):
    address = upload(folder, f"{bucket}/set")
    other = f"{bucket}/tables/mine.csv"
    rows = ("sounds/00.wav,train,x", "sounds/01.wav,val,x", "sounds/02.wav,test,x")
    open_place(other).write("\n".join(["filepath,split,label", *rows]).encode())
    data = load_dataset(address, other)
    assert [f"{one.filepath},{one.split},x" for one in data.examples] == list(rows)
    with pytest.raises(DatasetError, match=r"cannot be read|no such file"):
        load_dataset(address, f"{bucket}/tables/none-of-mine.csv")


@pytest.mark.parametrize("is_far", [False, True], ids=["folder", "store"])
def test_manifest_may_mix_addresses_with_paths(folder, bucket, object_store, is_far):
    elsewhere = upload(folder, f"{bucket}/other place")
    rows = []
    for index, (name, label) in enumerate(NAMES):
        cell = f"{elsewhere}/{name}" if index % 3 == 0 else name
        rows.append((cell, SPLITS[index // 2 % 6], label))
    write_manifest(folder / "metadata.csv", [*rows, (f"{elsewhere}/gone.wav", "train", "a")])
    object_store.refuse = note_gets(asked := [], ".wav")
    data = load_dataset(upload(folder, f"{bucket}/set") if is_far else folder)
    assert len(asked) == (6 if not is_far else 6 + len(NAMES) + 1)
    assert [(one.code, one.files) for one in check_manifest(data)] == [
        ("missing", (f"{elsewhere}/gone.wav",))
    ]
    plain = replace(data, root=folder, source="")
    for example, clip in load_clips(data, data.examples[:-1]):
        name = example.filepath.removeprefix(f"{elsewhere}/")
        assert (clip.samples * 2**15).astype(np.int16).tobytes() == sf.read(
            folder / name, dtype="int16"
        )[0].tobytes()
    found = profile_dataset(plain)
    assert (found.profile.num_clips, found.profile.num_quarantined) == (18, 1)
    assert found.quarantined[0].filepath == f"{elsewhere}/gone.wav"


def test_addresses_with_options_are_fetched_to_where_they_are_read(
    folder, bucket, object_store, monkeypatch, tmp_path
):
    options = f"?endpoint_override={object_store.endpoint}"
    elsewhere = upload(folder, f"{bucket}/other")
    cells = [f"{bucket}/set/{name}" for name, _ in NAMES[:2]]
    cells += [f"{bucket}/set/{name}{options}" for name, _ in NAMES[2:4]]
    cells += [f"{elsewhere}/{name}{options}" for name, _ in NAMES[4:6]]
    cells += [name for name, _ in NAMES[6:]]
    rows = [
        (cell, SPLITS[i // 2 % 6], label)
        for i, (cell, (_, label)) in enumerate(zip(cells, NAMES, strict=True))
    ]
    write_manifest(folder / "metadata.csv", rows)
    data = load_dataset(upload(folder, f"{bucket}/set") + options)
    names = [name for name, _ in NAMES]
    assert [one.filepath for one in data.examples] == names[:4] + cells[4:6] + names[6:]
    assert all(data.path(one).is_file() for one in data.examples)
    assert list(check_manifest(data)) == []
    monkeypatch.setenv("XMOE_CACHE", str(tmp_path / "another node"))
    again = data.fetch()
    assert again.root != data.root
    assert all(again.path(one).is_file() for one in data.examples)


def test_addresses_of_the_set_itself_are_paths(folder, bucket):
    address = upload(folder, f"{bucket}/set")
    rows = [(f"{address}/{name}", "train", label) for name, label in NAMES]
    write_manifest(folder / "metadata.csv", rows)
    data = load_dataset(upload(folder, address))
    assert sorted(one.filepath for one in data.examples) == sorted(name for name, _ in NAMES)


def test_unusual_endings_are_fetched_where_a_manifest_names_them(tmp_path, bucket):
    root = write_set(tmp_path / "set", [("0.sound", "a"), ("1.sound", "b"), ("2.other", "b")])
    write_manifest(root / "metadata.csv", [("0.sound", "test", "a"), ("1.sound", "test", "b")])
    data = load_dataset(upload(root, f"{bucket}/set"))
    assert profile_dataset(data).profile.num_clips == 2
    assert sorted(path.name for path in data.root.iterdir()) == [
        "0.sound",
        "1.sound",
        "metadata.csv",
    ]


def test_unknown_kinds_of_addresses_are_refused_by_name(folder):
    write_manifest(folder / "metadata.csv", [("http://host/x.wav", "train", "a")])
    with pytest.raises(InputError, match="cannot be opened") as caught:
        load_dataset(folder)
    assert caught.value.where == "http://host"


def test_a_machine_without_the_files_fetches_its_own(folder, bucket, monkeypatch, tmp_path):
    data = load_dataset(upload(folder, f"{bucket}/set"))
    monkeypatch.setenv("XMOE_CACHE", str(tmp_path / "another node"))
    part = replace(data, examples=data.examples[3:5]).fetch()
    assert part.root == local_path(data.source) != data.root
    assert sorted(path.name for path in part.root.rglob("*.wav")) == ["03.wav", "04.wav"]
    local = load_dataset(folder)
    assert local.fetch() is local


def test_more_clips_and_a_place_alone(folder, bucket):
    address = upload(folder, f"{bucket}/set")
    assert (
        load_more(address, None, "single_label").examples
        == load_more(folder, None, "single_label").examples
    )
    empty = empty_dataset(address, ("a",), "single_label")
    assert (empty.root, empty.source) == (local_path(address).resolve(), address)
    assert empty_dataset(folder, ("a",), "single_label").source == ""


def test_recordings_are_where_they_are_fetched_to(tmp_path):
    assert locate(tmp_path, "a/b.wav") == tmp_path / "a/b.wav"
    assert locate(tmp_path, "s3://bucket/b.wav") == local_path("s3://bucket/b.wav")
