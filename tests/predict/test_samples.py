"""The test clips that a run keeps: few, short, of different classes, and heard as they were."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile as sf

from tests.fixtures.runs import to_wav
from xmoe.audio.dataset import Dataset, Example
from xmoe.base.errors import RunFolderError
from xmoe.predict.samples import LONGEST_S, MOST_VALUES, pick_examples, read_samples, write_samples
from xmoe.run.folder import RunFile, RunFolder


def make_dataset(root, labels, *, seconds=0.5, rate_hz=8000, split="test"):
    rng = np.random.default_rng(0)
    examples = []
    for index, label in enumerate(labels):
        sound = (0.1 * rng.standard_normal(round(seconds * rate_hz))).astype(np.float32)
        (root / f"{index}.wav").write_bytes(to_wav(sound, rate_hz))
        examples.append(Example(f"{index}.wav", split, (label,)))
    return Dataset(root, tuple(examples), tuple(sorted(set(labels))), "single_label")


def test_as_they_were_with_their_labels(tmp_path):
    data = make_dataset(tmp_path, ["dog", "cat", "dog"])
    write_samples(RunFolder(tmp_path), data)
    found = read_samples(RunFolder(tmp_path))
    assert [sample.labels for sample in found] == [("cat",), ("dog",), ("dog",)]
    assert [sample.seconds for sample in found] == [0.5] * 3
    heard, rate_hz = sf.read(io.BytesIO(found[0].wav), dtype="float32")
    original, _ = sf.read(tmp_path / "1.wav", dtype="float32")
    assert rate_hz == 8000
    assert np.abs(heard - original).max() <= 2.0**-15
    assert len({sample.sound_sha256 for sample in found}) == 3


def test_six_of_many_classes_evenly_apart(tmp_path):
    data = make_dataset(tmp_path, [f"class-{i:02d}" for i in range(21)], seconds=0.02)
    chosen = [example.labels[0] for example in pick_examples(data)]
    assert chosen == ["class-00", "class-04", "class-08", "class-12", "class-16", "class-20"]


def test_long_and_fast_recordings_are_cut(tmp_path):
    write_samples(RunFolder(tmp_path), make_dataset(tmp_path, ["a"], seconds=9.0))
    assert read_samples(RunFolder(tmp_path))[0].seconds == LONGEST_S
    write_samples(RunFolder(tmp_path), make_dataset(tmp_path, ["a"], seconds=4.0, rate_hz=192_000))
    (sample,) = read_samples(RunFolder(tmp_path))
    assert len(sample.wav) == 2 * MOST_VALUES + 44


def test_only_the_test_split_and_only_what_can_be_read(tmp_path):
    write_samples(RunFolder(tmp_path), make_dataset(tmp_path, ["a"], split="train"))
    assert read_samples(RunFolder(tmp_path)) == ()
    data = make_dataset(tmp_path, ["a", "b"])
    (tmp_path / "0.wav").write_bytes(b"nothing")
    write_samples(RunFolder(tmp_path), data)
    assert [sample.labels for sample in read_samples(RunFolder(tmp_path))] == [("b",)]


def test_a_run_without_them_and_one_whose_file_is_torn(tmp_path):
    folder = RunFolder(tmp_path)
    assert read_samples(folder) == ()
    folder.file(RunFile.SAMPLES).write_bytes(b"PAR1")
    with pytest.raises(RunFolderError, match=r"samples\.parquet"):
        read_samples(folder)
    pq.write_table(pa.table({"labels": [["a"]]}), folder.file(RunFile.SAMPLES))
    with pytest.raises(RunFolderError, match="wav"):
        read_samples(folder)
