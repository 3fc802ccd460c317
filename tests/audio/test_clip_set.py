"""A training set out of annotated recordings: sample for sample, no recording in two splits."""

import csv
import hashlib

import numpy as np
import pytest
import soundfile as sf

from xmoe.audio.annotated import read_annotated
from xmoe.audio.clip_set import ClipSetOptions, write_clip_set
from xmoe.audio.dataset import load_dataset
from xmoe.base.errors import DatasetError

RATE_HZ = 4000
OPTIONS = ClipSetOptions(clip_s=0.5, background="background")


def write_folder(root, recordings=6, *, subtype="PCM_16", channels=1, labels=("a", "b")):
    """Write recordings of 6 s in which each label sounds twice."""
    rng = np.random.default_rng(0)
    root.mkdir()
    for index in range(recordings):
        sound = rng.normal(0, 0.1, (6 * RATE_HZ, channels)).astype(np.float32)
        sf.write(root / f"r{index}.wav", sound, RATE_HZ, subtype=subtype)
        rows = [f"{1 + 2 * i + j:g}\t{1.3 + 2 * i + j:g}\t{name}" for i in range(2)
                for j, name in enumerate(labels)]  # fmt: skip
        (root / f"r{index}.txt").write_text("\n".join(rows) + "\n")
    return read_annotated(root)


def rows_of(root):
    return list(csv.DictReader((root / "metadata.csv").read_text().splitlines()))


def test_no_recording_is_in_two_splits_and_every_class_is_in_each(tmp_path):
    written = write_clip_set(write_folder(tmp_path / "in"), tmp_path / "out", OPTIONS)
    dataset = load_dataset(tmp_path / "out")
    assert dataset.classes == ("a", "b", "background")
    groups = {}
    for example in dataset.examples:
        groups.setdefault(example.group, set()).add(example.split)
    assert len(groups) == 6
    assert all(len(splits) == 1 for splits in groups.values())
    for split in ("train", "val", "test"):
        found = {label for example in dataset.split(split) for label in example.labels}
        assert found == set(dataset.classes)
    assert sum(written.counts.values()) == len(dataset.examples) == 6 * 8
    assert written.notes == ()


@pytest.mark.parametrize(("subtype", "channels"), [("PCM_16", 1), ("PCM_24", 1), ("PCM_16", 2)])
def test_clips_are_the_recording_sample_for_sample(tmp_path, subtype, channels):
    folder = write_folder(tmp_path / "in", subtype=subtype, channels=channels)
    write_clip_set(folder, tmp_path / "out", OPTIONS)
    for row in rows_of(tmp_path / "out")[::5]:
        clip, rate = sf.read(tmp_path / "out" / row["filepath"], dtype="float32")
        whole = sf.read(tmp_path / "in" / f"{row['group']}.wav", dtype="float32", always_2d=True)[0]
        first = round(float(row["begins_s"]) * rate)
        np.testing.assert_array_equal(clip, whole[first : first + len(clip)].mean(1))
        assert len(clip) == RATE_HZ // 2


def test_an_event_is_in_its_clip_and_background_holds_none(tmp_path):
    folder = write_folder(tmp_path / "in")
    write_clip_set(folder, tmp_path / "out", OPTIONS)
    events = [(1 + i, 1.3 + i, "ab"[i % 2]) for i in range(4)]
    for row in rows_of(tmp_path / "out"):
        begins, ends = float(row["begins_s"]), float(row["ends_s"])
        inside = {name for a, b, name in events if a >= begins - 1e-6 and b <= ends + 1e-6}
        touched = {name for a, b, name in events if a < ends - 1e-6 and b > begins + 1e-6}
        assert inside == touched == {row["label"]} - {"background"}


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    folder = write_folder(tmp_path / "in")
    hashes = []
    for name, seed in (("x", 0), ("y", 0), ("z", 1)):
        out = tmp_path / name
        write_clip_set(folder, out, ClipSetOptions(background="background", seed=seed))
        digest = hashlib.sha256()
        for path in sorted(out.rglob("*.*")):
            digest.update(path.relative_to(out).as_posix().encode() + path.read_bytes())
        hashes.append(digest.hexdigest())
    assert hashes[0] == hashes[1] != hashes[2]


def test_background_is_as_much_as_is_asked_and_there(tmp_path):
    folder = write_folder(tmp_path / "in")
    for ratio, expected in ((0.5, 12), (100.0, None)):
        options = ClipSetOptions(clip_s=0.5, background="noise", background_ratio=ratio)
        counts = write_clip_set(folder, tmp_path / f"o{ratio}", options).counts
        found = sum(n for (_, label), n in counts.items() if label == "noise")
        assert found == expected or (expected is None and found > 12)
    alone = write_clip_set(folder, tmp_path / "none", ClipSetOptions(clip_s=0.5)).counts
    assert {label for _, label in alone} == {"a", "b"}


def test_a_class_of_one_recording_is_said_to_be_in_train_alone(tmp_path):
    root = tmp_path / "in"
    write_folder(root)
    with (root / "r3.txt").open("a") as handle:
        handle.write("5.2\t5.4\trare\n")
    written = write_clip_set(read_annotated(root), tmp_path / "out", OPTIONS)
    assert written.notes == ("rare is not in val and test: too few recordings hold it",)


def test_mixed_events_are_counted(tmp_path):
    root = tmp_path / "in"
    write_folder(root)
    with (root / "r3.txt").open("a") as handle:
        handle.write("1.1\t1.2\tother\n")
    notes = write_clip_set(read_annotated(root), tmp_path / "out", OPTIONS).notes
    assert notes[0].startswith("left out: 2 events in which another label sounds")


def test_two_recordings_are_too_few_to_split(tmp_path):
    with pytest.raises(DatasetError, match=r"no recording is left.*2 have clips"):
        write_clip_set(write_folder(tmp_path / "in", 2), tmp_path / "out", OPTIONS)
    assert not (tmp_path / "out" / "metadata.csv").exists()


def test_recordings_without_events_alone_are_refused(tmp_path):
    root = tmp_path / "in"
    write_folder(root)
    for path in root.glob("*.txt"):
        path.write_text("")
    with pytest.raises(DatasetError, match="no event to cut"):
        write_clip_set(read_annotated(root), tmp_path / "out", ClipSetOptions())
