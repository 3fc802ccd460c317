"""Order-free profiles: the same bytes for any order, any sharding, any number of workers."""

import random
import time

import numpy as np
import pytest
import soundfile as sf

from xmoe.audio.dataset import Dataset, Example
from xmoe.audio.quarantine import Quarantined
from xmoe.base.errors import DatasetError
from xmoe.base.files import to_json
from xmoe.profile.assemble import assemble, merge_stats, profile_dataset


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twenty clips of two classes at two rates, in two formats, and two bad files."""
    root = tmp_path_factory.mktemp("set")
    examples = []
    for index in range(20):
        rng = np.random.default_rng(index)
        rate = 8000 if index % 3 else 16_000
        name = f"{index:02d}.{'flac' if index % 5 == 0 else 'wav'}"
        samples = 0.1 * rng.standard_normal(rate // 2 + 37 * index)
        sf.write(root / name, samples, rate, subtype="PCM_16")
        split = ("train", "train", "val", "test")[index % 4]
        examples.append(Example(name, split, ("x" if index % 2 else "y",), row=index))
    (root / "bad.wav").write_bytes(b"nonsense" * 20)
    examples.append(Example("bad.wav", "train", ("x",), row=20))
    examples.append(Example("gone.wav", "train", ("y",), row=21))
    return Dataset(root, tuple(examples), ("x", "y"), "single_label")


def shuffled(dataset, seed):
    examples = list(dataset.examples)
    random.Random(seed).shuffle(examples)
    return Dataset(dataset.root, tuple(examples), dataset.classes, dataset.task)


def test_bytes_are_the_same_for_any_order_and_number_of_workers(folder):
    expected = profile_dataset(folder)
    for seed, workers in ((1, 1), (2, 4), (3, 2)):
        result = profile_dataset(shuffled(folder, seed), workers=workers)
        assert to_json(result.profile) == to_json(expected.profile)
        assert result.stats == expected.stats
        assert result.quarantined == expected.quarantined


def test_bytes_are_the_same_for_any_sharding(make_rows):
    rows = make_rows(50, change=lambda i, label: {"snr_db": np.sin(i) * 30, "duration_s": 0.1 * i})
    bad = [Quarantined(f"{i}.wav", "empty", "r", "m") for i in range(3)]
    expected = to_json(assemble([*rows, *bad], task="single_label").profile)
    for step in (2, 7):
        dealt = [row for first in range(step) for row in [*bad, *rows][first::step]]
        assert to_json(assemble(dealt, task="single_label").profile) == expected


def test_bad_files_are_quarantined_and_the_rest_is_profiled(folder):
    result = profile_dataset(folder)
    assert [(row.filepath, row.code) for row in result.quarantined][1] == ("gone.wav", "missing")
    assert [row.filepath for row in result.quarantined] == ["bad.wav", "gone.wav"]
    assert result.profile.num_clips == len(result.stats) == 20
    assert result.profile.num_quarantined == 2
    assert sum(result.profile.quarantine_codes.values()) == 2
    assert result.profile.fs_unique == {8000: 13, 16_000: 7}
    assert result.profile.formats == {"FLAC": 4, "WAV": 16}
    assert set(result.hashes) == {row.clip_id for row in result.stats}


def test_silent_clips_are_those_without_any_sound(make_rows):
    rates = (0.0, 1.0, 0.999, 1.0)
    rows = make_rows(4, change=lambda i, label: {"silence_rate": rates[i]})
    result = assemble(rows, task="single_label")
    assert result.silent == {rows[1].clip_id, rows[3].clip_id}


def test_numbers_of_white_noise_make_sense(folder):
    profile = profile_dataset(folder).profile
    assert profile.fmax_eff_hz == pytest.approx(7900, abs=120)
    assert profile.quantiles["rms_db"].p50 == pytest.approx(-20.0, abs=0.3)
    assert profile.snr_db < 0
    assert profile.transient < 0.05
    assert profile.clipping_rate == profile.silence_rate == 0.0


def test_nothing_readable_is_an_error_that_says_how_many():
    bad = [Quarantined("a.wav", "empty", "r", "m")]
    with pytest.raises(DatasetError, match="1 tried"):
        merge_stats([], quarantined=bad)


def test_path_out_of_the_root_is_refused_before_anything_is_read(folder):
    outside = Dataset(folder.root, (Example("../x.wav", "train", ("x",)),), ("x",), "single_label")
    with pytest.raises(DatasetError, match="leaves"):
        profile_dataset(outside)


def test_progress_is_told_of_every_clip(folder):
    calls = []
    profile_dataset(folder, progress=lambda *call: calls.append(call))
    assert calls[-1] == ("profile", 22, 22)
    assert len(calls) == 22


def test_multi_label_counts_each_label(make_rows):
    rows = make_rows(30, change=lambda i, label: {"labels": ("x", "y") if i < 10 else (label,)})
    profile = merge_stats(rows, task="multi_label")
    assert profile.classes["x"].count == profile.classes["y"].count == 20
    assert profile.leakage.chance == 0.5


def test_thousand_short_clips_take_a_second_or_two(tmp_path):
    rng = np.random.default_rng(0)
    sf.write(tmp_path / "a.wav", 0.1 * rng.standard_normal(3400), 8000)
    examples = tuple(
        Example("a.wav", "train", ("xy"[i % 2],), start_s=0.0, end_s=0.4 + i * 1e-6)
        for i in range(1000)
    )
    started = time.process_time()
    profile_dataset(Dataset(tmp_path, examples, ("x", "y"), "single_label"))
    assert time.process_time() - started < 6.0
