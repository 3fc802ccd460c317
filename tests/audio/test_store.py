"""Loading: order kept, errors as values, only a short window of clips in memory."""

import threading
from unittest import mock

import numpy as np
import pytest

from tests.audio.conftest import tone, wav_bytes
from xmoe.audio.clip import Clip
from xmoe.audio.store import load_clip, load_clips
from xmoe.base.errors import AudioError


@pytest.fixture
def mixed(write_audio, make_dataset, tmp_path):
    """Return a data set of ten files whose fourth is broken and whose seventh is missing."""
    rows = []
    for i in range(10):
        if i == 3:
            (tmp_path / "3.wav").write_bytes(wav_bytes()[:100])
        elif i != 6:
            write_audio(f"{i}.wav", tone(duration_s=0.1 + 0.01 * i))
        rows.append((f"{i}.wav", "train", "x"))
    return make_dataset(*rows)


@pytest.mark.parametrize("workers", [1, 4])
def test_order_is_kept_and_errors_are_values(mixed, workers):
    found = list(load_clips(mixed, mixed.examples, workers=workers))
    assert [example.filepath for example, _ in found] == [f"{i}.wav" for i in range(10)]
    for i, (_, outcome) in enumerate(found):
        if i in (3, 6):
            assert isinstance(outcome, AudioError)
            assert outcome.where == f"{i}.wav"
        else:
            assert outcome.duration_s == pytest.approx(0.1 + 0.01 * i)
    assert [found[i][1].code for i in (3, 6)] == ["truncated", "missing"]


def test_clips_are_resampled_and_remember_their_file(mixed):
    clip = load_clip(mixed, mixed.examples[0], sample_rate_hz=8000)
    assert (clip.sample_rate_hz, len(clip.samples)) == (8000, 800)
    assert clip.info.sample_rate_hz == 16_000
    spectrum = np.abs(np.fft.rfft(clip.samples))
    assert np.argmax(spectrum) * 10.0 == pytest.approx(440.0, abs=10.0)


def test_parts_are_loaded(write_audio, make_dataset):
    write_audio("long.wav", np.linspace(-0.5, 0.5, 16_000, dtype=np.float32))
    data = make_dataset(("long.wav", "train", "x", {"start_s": 0.5, "end_s": 0.75}))
    clip = load_clip(data, data.examples[0])
    assert clip.samples[0] == pytest.approx(0.0, abs=1e-4)
    assert len(clip.samples) == 4000


def test_strict_raises_at_the_first_error(mixed):
    loaded = load_clips(mixed, mixed.examples, strict=True)
    assert [next(loaded)[0].filepath for _ in range(3)] == ["0.wav", "1.wav", "2.wav"]
    with pytest.raises(AudioError, match=r"3\.wav"):
        next(loaded)


def test_progress_counts_every_clip(mixed):
    steps = []
    list(
        load_clips(mixed, mixed.examples, progress=lambda done, total: steps.append((done, total)))
    )
    assert steps == [(i, 10) for i in range(1, 11)]


def test_only_a_window_of_clips_is_decoded_ahead(mixed):
    started = []
    with mock.patch(
        "xmoe.audio.store.load_clip", side_effect=lambda d, example, **_: started.append(example)
    ):
        loaded = load_clips(mixed, mixed.examples, workers=2)
        next(loaded)
        assert len(started) <= 4
        loaded.close()


def test_stopping_early_ends_the_threads(mixed):
    before = threading.active_count()
    loaded = load_clips(mixed, mixed.examples, workers=3)
    next(loaded)
    loaded.close()
    assert threading.active_count() == before


def test_nothing_to_load_is_nothing(mixed):
    assert list(load_clips(mixed, ())) == []


def test_many_threads_agree_with_one(mixed):
    def digests(workers: int) -> list[str | None]:
        found = load_clips(mixed, mixed.examples * 5, workers=workers)
        return [c.content_sha256 if isinstance(c, Clip) else c.code for _, c in found]

    assert digests(8) == digests(1)
