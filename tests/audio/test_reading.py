"""One channel, or a file slower than life: read whole, in part and block by block."""

import numpy as np
import pytest

from tests.audio.conftest import tone
from xmoe.audio.clip import open_blocks, read_clip
from xmoe.audio.reading import Reading
from xmoe.base.errors import AudioError


def test_one_channel_is_heard_alone(write_audio):
    left, right = tone(), 0.25 * tone(frequency_hz=990.0)
    path = write_audio(samples=np.stack([left, right], 1))
    second = read_clip(path, reading=Reading(channel=2))
    np.testing.assert_allclose(second.samples, right, atol=1e-4)
    assert second.peak == pytest.approx(0.125, abs=1e-3)
    assert second.content_sha256 == read_clip(write_audio("r.wav", right)).content_sha256
    with open_blocks(path, block_frames=1000, reading=Reading(channel=2)) as (_, blocks, tally):
        np.testing.assert_array_equal(np.concatenate(list(blocks)), second.samples)
    assert tally.hexdigest() == second.content_sha256


def test_clipping_is_that_of_the_channel_that_is_heard(write_audio):
    path = write_audio(samples=np.stack([np.ones(8000), 0.5 * np.ones(8000)], 1))
    rates = [read_clip(path, reading=Reading(channel)).clipped_rate for channel in (None, 1, 2)]
    assert rates == [0.5, 1.0, 0.0]


def test_a_channel_that_is_not_there_is_named(write_audio):
    with pytest.raises(AudioError, match="channel 3 was asked for, there are 1") as caught:
        read_clip(write_audio(), reading=Reading(channel=3))
    assert caught.value.code == "bad_channels"


def test_a_file_that_is_slower_than_life_is_heard_at_its_rate(write_audio):
    path = write_audio(samples=tone(duration_s=5.0), rate=48_000)
    slow, fast = read_clip(path), read_clip(path, reading=Reading(time_expansion=10.0))
    assert (fast.sample_rate_hz, fast.duration_s) == (480_000, pytest.approx(slow.duration_s / 10))
    np.testing.assert_array_equal(fast.samples, slow.samples)
    part = read_clip(path, start_s=0.05, end_s=0.1, reading=Reading(time_expansion=10.0))
    np.testing.assert_array_equal(part.samples, slow.samples[24_000:48_000])
    with open_blocks(path, block_frames=4096, reading=Reading(time_expansion=10.0)) as (info, _, _):
        assert info.sample_rate_hz == 480_000
