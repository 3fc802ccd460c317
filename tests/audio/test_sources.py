"""Sources read off file names: what the split holds out, and nothing where names tell nothing."""

import pytest

from xmoe.audio.dataset import Example
from xmoe.audio.sources import find_sources


def make(names, *, splits, labels=("a", "b"), group=None):
    return [
        Example(name, split, (labels[index % len(labels)],), group=group)
        for index, (name, split) in enumerate(zip(names, splits, strict=True))
    ]


def digits(splits):
    """Return clips ``<digit>_<speaker>_<take>.wav`` of four speakers."""
    speakers = ("ann", "bob", "cay", "dan")
    names = [f"{d}_{s}_{t}.wav" for s in speakers for t in range(3) for d in range(2)]
    return make(names, splits=[splits(name) for name in names])


def test_speakers_that_the_split_keeps_apart_are_the_sources():
    keys, words = find_sources(digits(lambda name: "val" if "dan" in name else "train"))
    assert set(keys) == {"ann", "bob", "cay", "dan"}
    assert words == "field 2 of the file names, 4 sources, as the split keeps them apart"


def test_takes_are_the_sources_where_every_speaker_is_on_both_sides():
    keys, _ = find_sources(digits(lambda name: "val" if name.endswith("2.wav") else "train"))
    assert set(keys) == {"0", "1", "2"}


def test_a_prefix_may_name_the_source():
    names = [f"ship_{ship}_{part}.flac" for ship in range(6) for part in range(2)]
    names += [f"boat_{boat}_{part}.flac" for boat in range(6) for part in range(2)]
    splits = ["val" if name.startswith(("ship_5", "boat_0")) else "train" for name in names]
    examples = [
        Example(name, split, (name[:4],)) for name, split in zip(names, splits, strict=True)
    ]
    keys, words = find_sources(examples)
    assert len(set(keys)) == 12
    assert words.startswith("the first 2 fields")


def test_groups_of_the_manifest_come_first():
    names = [f"{index}.wav" for index in range(4)]
    keys, words = find_sources(make(names, splits=["train"] * 3 + ["val"], group="g"))
    assert set(keys) == {"group g"}
    assert words == "the manifest's groups"


@pytest.mark.parametrize(
    "names", [["x.wav", "y.wav", "z.wav", "w.wav"], ["p_1.wav", "p_2.wav", "p_3.wav", "p_4.wav"]]
)
def test_names_that_tell_nothing_leave_single_recordings(names):
    keys, words = find_sources(make(names, splits=["train", "train", "train", "val"]))
    assert keys == names
    assert words == "single recordings"


def test_a_source_that_is_a_class_is_none():
    names = [f"a_{index}.wav" for index in range(4)] + [f"b_{index}.wav" for index in range(4)]
    examples = [Example(name, "val" if name[0] == "b" else "train", (name[0],)) for name in names]
    assert find_sources(examples)[1] == "single recordings"


def test_one_split_alone_tells_nothing():
    assert find_sources(digits(lambda name: "train"))[1] == "single recordings"


def test_speakers_of_real_digits(real_data):
    from xmoe.audio.dataset import load_dataset

    root = real_data / "fsdd"
    examples = load_dataset(root, root / "metadata_speaker.csv").examples
    keys, _ = find_sources([example for example in examples if example.split != "test"])
    assert set(keys) == {"george", "jackson", "theo", "nicolas"}
