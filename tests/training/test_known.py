"""What a run keeps of its clips: which they are, where their features are, and nothing else."""

from dataclasses import replace

import numpy as np
import pytest
import soundfile as sf

from tests.fixtures.closed import SPECTRO
from xmoe.audio.dataset import Dataset, Example
from xmoe.base.config import KernelsSpec
from xmoe.base.errors import ConfigError, DatasetError, RunFolderError
from xmoe.training import kernel_features, known
from xmoe.training.kernel_features import Source, feature_file, measure_features
from xmoe.training.known import Known, find_again, read_known
from xmoe.training.pieces import SPEEDS

RATE_HZ = 8000
SPECS = [
    KernelsSpec(name=name, family="broadband", spectro=SPECTRO, kernels=count)
    for name, count in (("one", 1), ("two", 2))
]


@pytest.fixture
def dataset(tmp_path, rng):
    root = tmp_path / "data"
    (root / "a").mkdir(parents=True)
    names = ["a/0.wav", "a/1.wav", "2.wav", "3.wav"]
    for name in names:
        sf.write(root / name, 0.1 * rng.standard_normal(2000), RATE_HZ, subtype="PCM_16")
    examples = [
        Example(name, split, ("x",), group=group, row=row)
        for row, (name, split, group) in enumerate(
            zip(names, ("train", "train", "val", "val"), ("g", "g", None, None), strict=True)
        )
    ]
    return Dataset(root, tuple(examples), ("x", "y"), "single_label")


@pytest.fixture
def kept(dataset, tmp_path, monkeypatch):
    """Four clips in two blocks, three of them heard under noise, by two specs."""
    monkeypatch.setattr(kernel_features, "BLOCK_CLIPS", 2)
    source = Source(dataset, 0.3, tmp_path / "cache")
    whole = measure_features(source, dataset.examples, SPECS)
    noisy = measure_features(source, dataset.examples[1:], SPECS, copies=("noisy",))
    return Known(whole, noisy)


def test_what_was_written_comes_back(kept, tmp_path):
    path = tmp_path / "known.parquet"
    kept.save(path)
    again = read_known(path, kept.whole.folder, 0.3)
    for one, other in ((again.whole, kept.whole), (again.noisy, kept.noisy)):
        assert one.examples == other.examples
        assert one.counts.tolist() == other.counts.tolist()
        assert one.keys == other.keys
        assert one.parts() == other.parts()
    assert again.whole.digests == kept.whole.digests
    assert (again.noisy.table(SPECS[0], "noisy") == kept.noisy.table(SPECS[0], "noisy")).all()


def test_where_networks_looked_comes_back(kept, tmp_path, rng):
    focus = {
        copy: rng.random((int(one.counts.sum()), 7)).astype(np.float32)
        for copy, one in (("whole", kept.whole), ("noisy", kept.noisy))
    }
    looked = Known(
        replace(kept.whole, focus={"whole": focus["whole"]}),
        replace(kept.noisy, focus={"noisy": focus["noisy"]}),
    )
    looked.save(tmp_path / "known.parquet")
    again = read_known(tmp_path / "known.parquet", kept.whole.folder, 0.3)
    assert (again.whole.focus["whole"] == focus["whole"]).all()
    assert (again.noisy.focus["noisy"] == focus["noisy"]).all()
    assert again.whole.segment_s == 0.3


def test_copies_at_other_speeds_come_back_and_are_kept(kept, dataset, tmp_path):
    source = Source(dataset, 0.3, kept.whole.folder)
    copied = measure_features(source, dataset.examples[:3], SPECS, copies=list(SPEEDS))
    kept = Known(replace(kept.whole, copied=copied), kept.noisy)
    kept.save(tmp_path / "known.parquet")
    kept.prune(SPECS[:1])
    again = read_known(tmp_path / "known.parquet", kept.whole.folder, 0.3)
    assert again.whole.copied.examples == dataset.examples[:3]
    assert again.whole.copied_rows().tolist() == [0, 1, 2] * len(SPEEDS)
    assert again.holds(SPECS[:1])
    assert np.concatenate(list(again.whole.to_fit(SPECS[0]))).shape[0] == 10
    feature_file(copied.folder / copied.keys[0], SPECS[0], "slow").unlink()
    assert not again.holds(SPECS[:1])


def test_a_run_that_kept_nothing_and_a_torn_table_are_refused(kept, tmp_path):
    path = tmp_path / "known.parquet"
    with pytest.raises(ConfigError, match="which clips"):
        read_known(path, tmp_path, 0.3)
    kept.save(path)
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(RunFolderError, match="cannot be read"):
        read_known(path, tmp_path, 0.3)


def test_features_of_others_go_and_its_own_stay(kept):
    cache = kept.whole.folder
    costs = cache / "costs.json"
    costs.write_text("{}")
    table = kept.whole.table(SPECS[1])
    stay = kept.prune(SPECS[1:])
    assert stay == sum(path.stat().st_size for path in cache.rglob("*.npy")) > 0
    assert kept.holds(SPECS[1:])
    assert not kept.holds(SPECS)
    assert (kept.whole.table(SPECS[1]) == table).all()
    assert costs.is_file()


def test_features_that_are_too_many_are_not_kept(kept, monkeypatch):
    monkeypatch.setattr(known, "MOST_KEPT", 1000)
    assert kept.prune(SPECS) == 0
    assert not list(kept.whole.folder.rglob("*.npy"))
    assert not kept.holds(SPECS[:1])


def test_clips_are_found_by_name_and_bytes_in_several_folders(kept, dataset, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    for name in ("2.wav", "3.wav"):
        (dataset.root / name).rename(other / name)
    moved = replace(dataset, root=other)
    found = find_again(kept.whole, [dataset, moved])
    roots = [found.path(example).parents[example.filepath.count("/")] for example in found.examples]
    assert roots == [dataset.root, dataset.root, other, other]
    with pytest.raises(DatasetError, match=r"2 of the 4 clips .*: 2.wav, 3.wav"):
        find_again(kept.whole, [dataset])
    sf.write(other / "3.wav", np.zeros(2000), RATE_HZ)
    with pytest.raises(DatasetError, match=r"1 of the 4 clips .*: 3.wav"):
        find_again(kept.whole, [dataset, moved])
