"""The synthetic set: seeded clip by clip, of the SNR it claims, and read back as it was written."""

from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pytest

from xmoe.audio.checks import check_content, check_manifest
from xmoe.audio.clip import read_clip
from xmoe.audio.dataset import load_dataset
from xmoe.audio.store import load_clips
from xmoe.audio.synth import (
    SITE_SPLITS,
    EventBox,
    SynthConfig,
    generate_clip,
    read_boxes,
    write_dataset,
)
from xmoe.audio.synth_events import EVENT_LABELS
from xmoe.base.errors import ConfigError, DatasetError, StorageError


def test_a_clip_depends_on_seed_and_index_only():
    config = SynthConfig(num_clips=50)
    later = [generate_clip(config, index) for index in (7, 3)]
    earlier = [generate_clip(replace(config, num_clips=9), index) for index in (3, 7)]
    for one, other in zip(later, reversed(earlier), strict=True):
        np.testing.assert_array_equal(one.samples, other.samples)
        assert one[1:] == other[1:]
    other_seed = generate_clip(replace(config, seed=1), 7)
    assert not np.array_equal(other_seed.samples, later[0].samples)


def test_a_clip_unpacks():
    samples, rate, boxes, label, snr_db = generate_clip(SynthConfig(), 5)
    assert (samples.dtype, samples.shape, rate) == (np.float32, (16_000,), 16_000)
    assert np.abs(samples).max() <= 1.0
    assert [box.label for box in boxes] == [label]
    assert -18.0 <= snr_db <= 8.0


@pytest.mark.parametrize(
    ("config", "duration_s", "shortest_s", "longest_s"),
    [(SynthConfig(), 1.0, 0.4, 0.98), (SynthConfig(sparse=True), 5.0, 0.1, 0.83)],
)
def test_events_lie_in_their_clips(config, duration_s, shortest_s, longest_s):
    for index in range(40):
        clip = generate_clip(config, index)
        (box,) = clip.boxes
        assert len(clip.samples) / clip.sample_rate_hz == duration_s
        assert 0.0 <= box.start_s < box.end_s <= duration_s
        assert shortest_s < box.end_s - box.start_s < longest_s
        assert 0.0 <= box.fmin_hz < box.fmax_hz <= clip.sample_rate_hz / 2


def test_the_snr_is_what_it_says():
    config = SynthConfig(sparse=True, snr_db=(5.0, 5.0))
    found = []
    for index in range(40):
        clip = generate_clip(config, index)
        (box,) = clip.boxes
        if box.label in ("click_train", "tone_pulses"):
            continue
        first, last = (round(t * clip.sample_rate_hz) for t in (box.start_s, box.end_s))
        during = clip.samples[first + 300 : last - 300]
        outside = np.concatenate([clip.samples[: first - 100], clip.samples[last + 100 :]])
        found.append(np.mean(during**2) / np.mean(outside**2) - 1.0)
    assert 10 * np.log10(np.mean(found)) == pytest.approx(5.0, abs=0.5)


def test_classes_are_balanced_in_every_split():
    config = SynthConfig(num_clips=480, classes=4, duration_s=0.1, event_s=(0.06, 0.09))
    counts: dict[str, Counter] = defaultdict(Counter)
    for index in range(480):
        counts[SITE_SPLITS[index % 20]][generate_clip(config, index).label] += 1
    assert set(counts) == {"train", "val", "test"}
    for count in counts.values():
        assert set(count) == set(EVENT_LABELS[:4])
        assert max(count.values()) - min(count.values()) <= 3


def test_rates_go_by_site_not_by_class():
    config = SynthConfig(sample_rates_hz=(8_000, 22_050, 44_100))
    rates: dict[str, set[int]] = defaultdict(set)
    for index in range(160):
        clip = generate_clip(config, index)
        rates[clip.label].add(clip.sample_rate_hz)
        assert clip.boxes[0].fmax_hz <= 4_000.0 * 1.25
    assert all(found == {8_000, 22_050, 44_100} for found in rates.values())


def test_overdriven_clips_are_clipped_and_others_are_not():
    for fraction, clipped in ((0.0, False), (1.0, True)):
        config = SynthConfig(clipped_fraction=fraction)
        for index in range(10):
            samples = np.abs(generate_clip(config, index).samples)
            assert bool(np.mean(samples >= 1.0) > 0.003) is clipped


def test_band_limited_clips_end_above_their_event():
    config = SynthConfig(band_limited_fraction=1.0, snr_db=(0.0, 0.0))
    edges = []
    for index in range(20):
        clip = generate_clip(config, index)
        power = np.cumsum(np.abs(np.fft.rfft(clip.samples)) ** 2)
        edge_hz = np.searchsorted(power / power[-1], 0.999) * 1.0
        edges.append(edge_hz)
        assert edge_hz > 0.9 * clip.boxes[0].fmax_hz
    assert min(edges) < 4_000.0


def test_bursts_are_louder_than_the_background_and_have_no_box():
    quiet = SynthConfig(sparse=True, snr_db=(-40.0, -40.0))
    loud = replace(quiet, max_bursts=4)
    peaks = {config: [] for config in (quiet, loud)}
    for config, found in peaks.items():
        for index in range(12):
            clip = generate_clip(config, index)
            assert len(clip.boxes) == 1
            frames = clip.samples[: 16_000 * 5].reshape(-1, 800)
            power = np.mean(frames**2, axis=1)
            found.append(power.max() / np.median(power))
    assert max(peaks[quiet]) < 4.0
    assert np.median(peaks[loud]) > 4.0


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Return a written set of forty clips and its config."""
    config = SynthConfig(num_clips=40, sample_rates_hz=(16_000, 22_050), clipped_fraction=0.5)
    return write_dataset(tmp_path_factory.mktemp("synth"), config), config


def test_a_written_set_loads_without_a_word(written):
    root, _ = written
    data = load_dataset(root)
    assert (len(data.examples), len(data.classes), data.notes) == (40, 8, ())
    assert {split: len(data.split(split)) for split in ("train", "val", "test")} == {
        "train": 24,
        "val": 6,
        "test": 10,
    }
    assert [finding for finding in check_manifest(data) if finding.severity == "error"] == []
    hashes = {e.clip_id: clip.content_sha256 for e, clip in load_clips(data, data.examples)}
    assert check_content(data, hashes) == []


def test_written_clips_are_those_generated(written):
    root, config = written
    for index, example in enumerate(load_dataset(root).examples[:10]):
        clip = generate_clip(config, index)
        read = read_clip(root / example.filepath)
        assert read.sample_rate_hz == clip.sample_rate_hz
        np.testing.assert_allclose(read.samples, clip.samples, atol=2**-14)
        assert example.labels == (clip.label,)


def test_boxes_are_read_back(written):
    root, config = written
    boxes = read_boxes(root)
    examples = load_dataset(root).examples
    assert set(boxes) == {example.filepath for example in examples}
    for index, example in enumerate(examples):
        (wanted,), (got,) = generate_clip(config, index).boxes, boxes[example.filepath]
        assert got.label == wanted.label
        for name in ("start_s", "end_s", "fmin_hz", "fmax_hz"):
            assert getattr(got, name) == pytest.approx(getattr(wanted, name), abs=0.01)


def test_overdriven_clips_are_measured_as_clipped(written):
    root, _ = written
    rates = [read_clip(path).clipped_rate for path in sorted((root / "audio").iterdir())]
    assert 8 <= sum(rate > 0 for rate in rates) <= 32


def test_the_same_seed_writes_the_same_bytes(tmp_path):
    config = SynthConfig(num_clips=3)
    roots = [write_dataset(tmp_path / name, config) for name in "ab"]
    for path in sorted(roots[0].rglob("*.*")):
        assert path.read_bytes() == (roots[1] / path.relative_to(roots[0])).read_bytes()


def test_progress_counts_clips(tmp_path):
    steps = []
    write_dataset(
        tmp_path, SynthConfig(num_clips=3), lambda done, total: steps.append((done, total))
    )
    assert steps == [(1, 3), (2, 3), (3, 3)]


def test_a_folder_that_cannot_be_written_is_a_storage_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError):
        write_dataset(tmp_path / "file", SynthConfig(num_clips=1))


@pytest.mark.parametrize(
    "wrong",
    [
        {"num_clips": 0},
        {"classes": 1},
        {"classes": 9},
        {"event_s": (0.5, 2.0)},
        {"event_s": (0.5, 0.3)},
        {"sample_rates_hz": ()},
        {"sample_rates_hz": (2_000,)},
        {"snr_db": (5.0, 0.0)},
        {"clipped_fraction": 1.5},
        {"band_limited_fraction": -0.1},
        {"max_bursts": -1},
        {"duration_s": 0.04},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ConfigError):
        SynthConfig(**wrong)


def test_boxes_that_are_damaged_are_refused(tmp_path):
    (tmp_path / "boxes.csv").write_text("filepath,label\na,x\n")
    with pytest.raises(DatasetError, match="no column end_s, fmax_hz, fmin_hz, start_s"):
        read_boxes(tmp_path)
    (tmp_path / "boxes.csv").write_text(
        "filepath,label,start_s,end_s,fmin_hz,fmax_hz\na,x,0,1,2,three\n"
    )
    with pytest.raises(DatasetError, match="not a number") as caught:
        read_boxes(tmp_path)
    assert caught.value.where.endswith("boxes.csv line 2")


def test_box_fields_are_in_seconds_and_hertz():
    box = EventBox("x", 0.1, 0.2, 300.0, 400.0)
    assert (box.start_s, box.end_s, box.fmin_hz, box.fmax_hz) == (0.1, 0.2, 300.0, 400.0)
