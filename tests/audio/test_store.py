"""Loading: order kept, errors as values, only a short window of clips in memory."""

import threading
from unittest import mock

import numpy as np
import pytest

from tests.audio.conftest import tone, wav_bytes
from xmoe.audio.store import CLIPS_HELD, load_clip, load_clips
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


def test_order_is_kept_and_errors_are_values(mixed):
    found = list(load_clips(mixed, mixed.examples))
    assert [example.filepath for example, _ in found] == [f"{i}.wav" for i in range(10)]
    for i, (_, outcome) in enumerate(found):
        if i in (3, 6):
            assert isinstance(outcome, AudioError)
            assert outcome.where == f"{i}.wav"
        else:
            assert outcome.duration_s == pytest.approx(0.1 + 0.01 * i)
    assert [found[i][1].code for i in (3, 6)] == ["truncated", "missing"]


def test_parts_are_loaded(write_audio, make_dataset):
    write_audio("long.wav", np.linspace(-0.5, 0.5, 16_000, dtype=np.float32))
    data = make_dataset(("long.wav", "train", "x", {"start_s": 0.5, "end_s": 0.75}))
    clip = load_clip(data, data.examples[0])
    assert clip.samples[0] == pytest.approx(0.0, abs=1e-4)
    assert len(clip.samples) == 4000


def test_only_a_window_of_clips_is_decoded_ahead(mixed):
    started = []
    with mock.patch(
        "xmoe.audio.store.load_clip", side_effect=lambda d, example, **_: started.append(example)
    ):
        loaded = load_clips(mixed, mixed.examples)
        next(loaded)
        assert len(started) <= CLIPS_HELD
        loaded.close()


def test_stopping_early_ends_the_threads(mixed):
    before = threading.active_count()
    loaded = load_clips(mixed, mixed.examples)
    next(loaded)
    loaded.close()
    assert threading.active_count() == before


def test_nothing_to_load_is_nothing(mixed):
    assert list(load_clips(mixed, ())) == []


def test_threads_agree_with_one_clip_at_a_time(mixed):
    usable = [e for i, e in enumerate(mixed.examples) if i not in (3, 6)] * 5
    found = [clip.content_sha256 for _, clip in load_clips(mixed, usable)]
    assert found == [load_clip(mixed, example).content_sha256 for example in usable]
