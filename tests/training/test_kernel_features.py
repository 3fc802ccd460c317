"""One pass over recordings: same features as each ear alone, measured once, bad files left out."""

from dataclasses import replace

import numpy as np
import pytest
import soundfile as sf

from xmoe.audio.dataset import Dataset, Example
from xmoe.audio.store import load_clip
from xmoe.base.config import KernelsSpec, SpectroConfig
from xmoe.experts.kernels import KernelsEar
from xmoe.training import kernel_features
from xmoe.training.ears import StemSpec, build_ear
from xmoe.training.kernel_features import (
    BlockTask,
    Source,
    extend_features,
    feature_file,
    halve_bytes,
    measure_block,
    measure_features,
)
from xmoe.training.pieces import cut_training

RATE_HZ = 8000
# Features are kept in 16 bits.
HALF = 2**-11
SPECTRO = SpectroConfig(
    sample_rate_hz=RATE_HZ,
    fmax_hz=4000.0,
    n_fft=256,
    win_length=200,
    hop_length=80,
    num_bins=16,
    segment_s=0.4,
    segment_hop_s=0.2,
)
FINE = SPECTRO.model_copy(update={"win_length": 256})
SPECS = [
    KernelsSpec(name="base", family="broadband", spectro=SPECTRO, kernels=2),
    KernelsSpec(name="fine", family="fine_frequency", spectro=FINE, kernels=2),
]


@pytest.fixture
def dataset(tmp_path):
    root = tmp_path / "data"
    root.mkdir()
    rng = np.random.default_rng(0)
    examples = []
    for index in range(7):
        name = f"{index}.wav"
        if index == 3:
            (root / name).write_bytes(b"no sound")
        else:
            samples = 0.1 * rng.standard_normal(2000 + 300 * index)
            sf.write(root / name, samples, RATE_HZ, subtype="PCM_16")
        examples.append(Example(name, "train", ("ab"[index % 2],), row=index))
    return Dataset(root, tuple(examples), ("a", "b"), "single_label")


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(kernel_features, "BLOCK_CLIPS", 3)


@pytest.mark.usefixtures("small_blocks")
def test_rows_are_what_each_ear_measures(dataset, tmp_path):
    found = measure_features(Source(dataset, 1.0, tmp_path / "cache"), dataset.examples, SPECS)
    assert [one.filepath for one in found.examples] == [f"{i}.wav" for i in (0, 1, 2, 4, 5, 6)]
    for spec in SPECS:
        ear = KernelsEar(spec)
        table = found.table(spec)
        for row, example in zip(table, found.examples, strict=True):
            clip = load_clip(dataset, example)
            assert row == pytest.approx(ear.measure(clip.samples, RATE_HZ), rel=HALF, abs=1e-6)
        assert [len(block) for block in found.blocks(spec)] == [3, 2, 1]


def test_recordings_that_cannot_be_used_are_named(dataset, tmp_path):
    for _ in range(2):
        found = measure_features(Source(dataset, 1.0, tmp_path / "cache"), dataset.examples, SPECS)
        assert [(one.filepath, one.code) for one in found.bad] == [("3.wav", "not_audio")]


@pytest.mark.usefixtures("small_blocks")
def test_only_what_is_new_is_measured(dataset, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    measure_features(Source(dataset, 1.0, cache), dataset.examples, SPECS[:1])
    measured = []
    original = KernelsEar.measure
    monkeypatch.setattr(
        KernelsEar,
        "measure",
        lambda self, *args: measured.append(self.spec.name) or original(self, *args),
    )
    measure_features(Source(dataset, 1.0, cache), dataset.examples, SPECS[:1])
    assert measured == []
    measure_features(Source(dataset, 1.0, cache), dataset.examples, SPECS)
    assert measured == ["fine"] * 6


def test_a_changed_file_is_measured_again(dataset, tmp_path):
    cache = tmp_path / "cache"
    before = measure_features(Source(dataset, 1.0, cache), dataset.examples, SPECS[:1])
    sf.write(dataset.root / "0.wav", 0.1 * np.ones(2000), RATE_HZ, subtype="PCM_16")
    after = measure_features(Source(dataset, 1.0, cache), dataset.examples, SPECS[:1])
    assert before.keys != after.keys
    assert before.table(SPECS[0])[1:] == pytest.approx(after.table(SPECS[0])[1:])
    assert [one == other for one, other in zip(before.digests, after.digests, strict=True)] == [
        False,
        *[True] * 5,
    ]
    assert not np.allclose(before.table(SPECS[0])[0], after.table(SPECS[0])[0])


@pytest.mark.usefixtures("small_blocks")
def test_blocks_that_lack_a_spec_are_measured_where_their_recordings_are(dataset, tmp_path):
    source = Source(dataset, 1.0, tmp_path / "cache")
    one = measure_features(source, dataset.examples[:4], SPECS[:1])
    both = one.join(measure_features(source, dataset.examples[4:], SPECS[:1]))
    assert [len(examples) for _, examples in both.parts()] == [3, 3]
    moved = replace(dataset, root=dataset.root.rename(tmp_path / "moved"))
    extend_features(both, replace(source, dataset=moved), SPECS, "whole")
    at_once = measure_features(Source(moved, 1.0, tmp_path / "other"), moved.examples, SPECS)
    assert at_once.examples == both.examples
    assert at_once.digests == both.digests
    for spec in SPECS:
        assert (both.table(spec) == at_once.table(spec)).all()


def test_who_joins_was_not_looked_at_yet(dataset, tmp_path):
    source = Source(dataset, 0.1, tmp_path / "cache")
    one = measure_features(source, dataset.examples[:4], SPECS[:1])
    rows = int(one.counts.sum())
    assert not one.looked("whole").any()
    one = replace(one, focus={"whole": np.ones((rows, 5), np.float32)})
    both = one.join(measure_features(source, dataset.examples[4:], SPECS[:1]))
    assert both.segment_s == 0.1
    assert both.looked("whole").tolist() == [True] * rows + [False] * (len(both.owners) - rows)
    assert not both.looked("whole", "noisy").any()


def test_features_are_kept_in_16_bits_where_they_fit():
    rng = np.random.default_rng(0)
    table = rng.normal(size=(3, 5)).astype(np.float32)
    assert halve_bytes(table).nbytes == table.nbytes / 2
    assert halve_bytes(table) == pytest.approx(table, rel=HALF, abs=1e-6)
    assert halve_bytes(1e6 * table).dtype == np.float32


def test_specs_that_see_the_same_share_a_file(tmp_path):
    other = SPECS[0].model_copy(update={"name": "other", "reason": "why"})
    assert feature_file(tmp_path, other, "whole") == feature_file(tmp_path, SPECS[0], "whole")
    assert feature_file(tmp_path, SPECS[1], "whole") != feature_file(tmp_path, SPECS[0], "whole")


def test_workers_that_share_the_blocks_write_the_files_of_one(dataset, tmp_path):
    few = replace(dataset, examples=dataset.examples[:3])
    task = BlockTask(few, tuple(SPECS), ("whole",), 1.0, tmp_path / "one")
    measure_block(task)
    for spec in SPECS:
        measure_block(replace(task, specs=(spec,), folder=tmp_path / "two"))
    for spec in SPECS:
        one, two = (feature_file(tmp_path / name, spec, "whole") for name in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()


def test_each_segment_is_a_row_of_its_own(dataset, tmp_path):
    found = measure_features(Source(dataset, 0.1, tmp_path / "cache"), dataset.examples, SPECS[:1])
    assert found.counts.tolist() == [3, 3, 4, 4, 5, 5]
    assert found.owners.tolist() == np.repeat(range(6), found.counts).tolist()
    ear, clip = KernelsEar(SPECS[0]), load_clip(dataset, dataset.examples[1])
    rows = found.table(SPECS[0])[found.owners == 1]
    for row, piece in zip(rows, cut_training(clip, 0.1), strict=True):
        assert row == pytest.approx(ear.measure(piece, RATE_HZ), rel=HALF, abs=1e-6)


def test_a_stem_is_measured_as_it_is_answered(dataset, tmp_path):
    spec = StemSpec(spectro=SPECTRO, kernels=8)
    found = measure_features(Source(dataset, 0.4, tmp_path / "cache"), dataset.examples[:2], [spec])
    ear = build_ear(spec, 0.4)
    clip = load_clip(dataset, dataset.examples[0])
    assert found.table(spec).shape == (2, ear.num_features)
    assert found.table(spec)[0] == pytest.approx(
        ear.measure(clip.samples, RATE_HZ), rel=HALF, abs=1e-5
    )
    assert feature_file(tmp_path, spec, "whole") != feature_file(tmp_path, SPECS[0], "whole")
