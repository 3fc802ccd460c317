"""Recordings -> store -> power: what is lost, what is padded, and what a torn store does."""

from dataclasses import replace

import numpy as np
import pytest
import soundfile as sf
import torch

from xmoe.audio.dataset import Example
from xmoe.audio.segment import Grid
from xmoe.base.errors import RunFolderError, StorageError
from xmoe.features.segments import eval_segments
from xmoe.features.store import LOG_FLOOR, SpectrogramStore, build_store, matches, open_store
from xmoe.frontend.measure import measure_power
from xmoe.frontend.registry import build_frontend


def power_of(dataset, example, frontend):
    samples, rate = sf.read(dataset.path(example), dtype="float32")
    return measure_power(samples, rate, frontend)


@pytest.fixture
def copied(store_paths, tmp_path):
    """A store that a test may damage."""
    for suffix in (".npy", ".json"):
        (tmp_path / f"val{suffix}").write_bytes(store_paths["val"].with_suffix(suffix).read_bytes())
    return tmp_path / "val"


def test_whole_clip_is_stored_within_half_precision(tones, stores, frontend):
    for index, example in enumerate(tones.split("train")):
        expected = power_of(tones, example, frontend).clamp_min(LOG_FLOOR)
        stored = stores["train"].piece(index)
        assert stored.shape == expected.shape
        assert float((10 * (stored / expected).log10()).abs().max()) < 0.04


def test_store_knows_clips_targets_and_frames(tones, stores, config):
    store = stores["train"]
    assert len(store) == 36
    assert store.clip_ids == tuple(f"{index:03d}.wav" for index in range(36))
    assert store.targets.dtype == np.int64
    assert store.targets.tolist() == [0, 1, 2] * 12
    hop = config.spectro.hop_length
    assert store.frames[:5].tolist() == [s * 8000 // (10 * hop) + 1 for s in (3, 4, 5, 6, 7)]


def test_batch_cuts_segments_and_pads_with_silence(stores):
    store = stores["train"]
    power, valid = store.batch([0, 4], [5, 30], 33)
    assert power.shape == (2, 16, 33)
    assert valid.tolist() == [26, 33]
    torch.testing.assert_close(power[0, :, :26], store.piece(0)[:, 5:])
    torch.testing.assert_close(power[1], store.piece(4)[:, 30:63])
    assert float(power[0, :, 26:].abs().max()) == 0.0


def test_each_segment_can_be_a_piece(tones, stores, frontend, config):
    store, spectro = stores["val"], config.spectro
    assert int(store.frames.max()) == spectro.num_frames
    for index, example in enumerate(tones.split("val")):
        samples, rate = sf.read(tones.path(example), dtype="float32")
        grid = Grid.of(rate, segment_s=spectro.segment_s, hop_s=spectro.segment_hop_s)
        pieces = store.pieces_of(index)
        assert len(pieces) == len(grid.starts(len(samples)))
        assert [store.piece(piece).shape[1] for piece in pieces] == store.frames[pieces].tolist()
        for piece, segment in zip(pieces, grid.cut(samples), strict=True):
            alone = measure_power(segment.samples, rate, frontend).clamp_min(LOG_FLOOR)
            assert float((10 * (store.piece(piece) / alone).log10()).abs().max()) < 0.04


def test_several_labels_are_stored_as_rows(tones, frontend, tmp_path):
    examples = tuple(
        replace(example, labels=labels)
        for example, labels in zip(tones.examples, [("top", "low"), (), ("middle",)], strict=False)
    )
    dataset = replace(tones, examples=examples, task="multi_label")
    store, _ = build_store(tmp_path / "many", dataset, examples, frontend)
    assert store.targets.dtype == np.float32
    assert store.targets.tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]


def test_other_rates_are_resampled(frontend):
    time_s = np.arange(11_025) / 22_050
    power = measure_power(np.sin(2 * np.pi * 1000 * time_s).astype(np.float32), 22_050, frontend)
    assert power.shape == (16, 51)
    peak_hz = float(frontend.bin_centers_hz[power.sum(1).argmax()])
    assert abs(peak_hz - 1000) < 150


def test_bad_clips_are_quarantined_and_left_out(tones, frontend, tmp_path):
    root = tmp_path / "set"
    root.mkdir()
    (root / "bad.wav").write_bytes(b"nonsense" * 20)
    for example in tones.examples[:3]:
        (root / example.filepath).write_bytes(tones.path(example).read_bytes())
    bad, gone = Example("bad.wav", "train", ("low",)), Example("gone.wav", "train", ("top",))
    good = tones.examples[:3]
    examples = (good[0], bad, good[1], gone, good[2])
    dataset = replace(tones, root=root, examples=examples)
    store, quarantined = build_store(tmp_path / "some", dataset, examples, frontend)
    assert [row.filepath for row in quarantined] == ["bad.wav", "gone.wav"]
    assert [row.code for row in quarantined] == ["not_audio", "missing"]
    assert store.clip_ids == ("000.wav", "001.wav", "002.wav")
    assert store.targets.tolist() == [0, 1, 2]
    expected = power_of(tones, good[2], frontend).clamp_min(LOG_FLOOR)
    torch.testing.assert_close(store.piece(2), expected, rtol=0.01, atol=0.0)


def test_set_of_bad_clips_is_an_empty_store(tones, frontend, tmp_path):
    gone = (Example("gone.wav", "train", ("low",)),)
    store, quarantined = build_store(tmp_path / "none", tones, gone, frontend)
    assert (len(store), len(quarantined)) == (0, 1)


def test_building_says_how_far_it_is(tones, frontend, tmp_path):
    calls = []
    build_store(
        tmp_path / "val",
        tones,
        tones.split("val"),
        frontend,
        progress=lambda stage, done, total, note="": calls.append((stage, done, total)),
    )
    assert calls == [("spectrograms of val", done, 12) for done in range(1, 13)]


def test_interrupted_build_leaves_no_store(tones, frontend, tmp_path):
    path = tmp_path / "val"
    examples = tones.split("val")
    clip_ids = [example.clip_id for example in examples]

    def stop(stage, done, total=None, note=""):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_store(path, tones, examples, frontend, progress=stop)
    assert not path.with_suffix(".npy").exists()
    assert not path.with_suffix(".json").exists()
    assert not matches(path, frontend, clip_ids)
    store, _ = build_store(path, tones, examples, frontend)
    assert len(store) == 12
    assert sorted(item.name for item in tmp_path.iterdir()) == ["val.json", "val.npy"]


def test_unwritable_place_is_a_storage_error(tones, frontend, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot write"):
        build_store(tmp_path / "file" / "val", tones, tones.split("val"), frontend)


@pytest.fixture
def with_sound(tones, frontend, tmp_path):
    """The path of a store that holds the sound of its segments."""
    examples = tones.split("val")[:4]
    build_store(tmp_path / "heard", tones, examples, frontend, by_segment=True, with_sound=True)
    return tmp_path / "heard"


def test_sound_of_the_segments_is_kept_in_16_bits(tones, with_sound, config):
    store, spectro = open_store(with_sound), config.spectro
    for index, example in enumerate(tones.split("val")[:4]):
        samples, rate = sf.read(tones.path(example), dtype="float32")
        grid = Grid.of(rate, segment_s=spectro.segment_s, hop_s=spectro.segment_hop_s)
        sound = store.sound.rows(list(store.pieces_of(index)))
        for row, segment in enumerate(grid.cut(samples)):
            read, read_hz = sound.read(row)
            assert read_hz == rate
            assert read == pytest.approx(segment.samples, abs=2e-5)


def test_segments_of_a_store_bring_their_sound(with_sound, frontend, stores):
    store = open_store(with_sound)
    segments = eval_segments(store, frontend, [1, 0])
    assert len(segments.sound) == len(segments.spec)
    first = store.sound.rows(list(store.pieces_of(1)))
    assert torch.equal(segments.sound.length[: len(first)], first.length)
    assert eval_segments(stores["val"], frontend, [0]).sound is None


@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_torn_sound_is_refused(with_sound, frontend, damage):
    ids = open_store(with_sound).clip_ids
    assert matches(with_sound, frontend, ids, with_sound=True)
    sound = with_sound.with_suffix(".pcm")
    sound.write_bytes(sound.read_bytes()[:-2]) if damage == "cut" else sound.unlink()
    with pytest.raises(RunFolderError, match="damaged"):
        open_store(with_sound)
    assert not matches(with_sound, frontend, ids)


def test_a_store_without_sound_does_not_match_where_it_is_wanted(stores, store_paths, frontend):
    ids = stores["val"].clip_ids
    assert matches(store_paths["val"], frontend, ids)
    assert not matches(store_paths["val"], frontend, ids, with_sound=True)


def test_store_matches_its_front_end_and_clips(tones, store_paths, config, frontend):
    clip_ids = [example.clip_id for example in tones.split("val")]
    finer = config.spectro.model_copy(update={"num_bins": 32})
    assert matches(store_paths["val"], frontend, clip_ids)
    assert matches(store_paths["val"], frontend, [*clip_ids, "quarantined.wav"])
    assert not matches(store_paths["val"], frontend, clip_ids[1:])
    assert not matches(store_paths["val"], build_frontend(finer), clip_ids)


@pytest.mark.parametrize("suffix", [".npy", ".json"])
def test_store_without_one_of_its_files_matches_nothing(copied, frontend, stores, suffix):
    assert matches(copied, frontend, stores["val"].clip_ids)
    copied.with_suffix(suffix).unlink()
    assert not matches(copied, frontend, stores["val"].clip_ids)


def test_torn_index_matches_nothing(copied, frontend, stores):
    copied.with_suffix(".json").write_text('{"clip_ids": [')
    assert not matches(copied, frontend, stores["val"].clip_ids)


def test_cut_array_is_torn(copied):
    data = copied.with_suffix(".npy").read_bytes()
    copied.with_suffix(".npy").write_bytes(data[:-100])
    with pytest.raises(RunFolderError, match="damaged"):
        open_store(copied)


@pytest.mark.parametrize("suffix", [".npy", ".json"])
def test_missing_file_is_torn(copied, suffix):
    copied.with_suffix(suffix).unlink()
    with pytest.raises(RunFolderError):
        open_store(copied)


def test_index_of_another_array_is_refused(copied, store_paths):
    other = store_paths["test"].with_suffix(".npy").read_bytes()
    copied.with_suffix(".npy").write_bytes(other)
    array = np.load(copied.with_suffix(".npy"))
    np.save(copied.with_suffix(".npy"), array[:-1])
    with pytest.raises(RunFolderError, match="disagree"):
        open_store(copied)


def test_open_store_is_what_was_built(store_paths, stores):
    again = open_store(store_paths["val"])
    assert isinstance(again, SpectrogramStore)
    assert again.clip_ids == stores["val"].clip_ids
    assert np.array_equal(again.values, stores["val"].values)
    assert np.array_equal(again.offsets, stores["val"].offsets)
