"""Opening: what is no regular file is refused at once, and errors say nothing they should not."""

import io
import os

import pytest

from tests.audio.conftest import encode, tone
from xmoe.audio.opening import open_sound
from xmoe.base.errors import AudioError


def code_of(source: object, **options: object) -> str:
    with pytest.raises(AudioError) as caught, open_sound(source, **options):
        pass
    assert caught.value.mend
    return caught.value.code


def test_gives_an_open_sound_and_its_name(write_audio):
    path = write_audio()
    with open_sound(path) as (sound, where):
        assert (sound.samplerate, sound.frames, where) == (16_000, 8_000, str(path))
    with open_sound(path, name="given") as (_, where):
        assert where == "given"


def test_streams_stay_open_and_start_at_the_start():
    stream = io.BytesIO(encode(tone()))
    stream.seek(77)
    with open_sound(stream) as (sound, where):
        assert (sound.frames, where) == (8_000, "audio stream")
    assert not stream.closed


def test_what_is_not_there_is_missing(tmp_path, write_audio):
    assert code_of(tmp_path / "none.wav") == "missing"
    assert code_of(write_audio() / "below_a_file.wav") == "missing"


def test_a_pipe_a_device_and_a_folder_are_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    for path in (tmp_path / "pipe.wav", "/dev/zero", tmp_path):
        assert code_of(path) == "unreadable"


def test_odd_names_are_refused(tmp_path):
    (tmp_path / "loop.wav").symlink_to("loop.wav")
    assert code_of(tmp_path / "loop.wav") == "unreadable"
    assert code_of("nul\0byte.wav") == "unreadable"
    assert code_of("x" * 5000) == "unreadable"


def test_size_is_checked_first():
    assert code_of(io.BytesIO(encode(tone())), max_bytes=100) == "too_large"


def test_a_closed_stream_is_an_error_of_that_stream():
    stream = io.BytesIO(encode(tone()))
    stream.close()
    assert code_of(stream) == "unreadable"


def test_damage_that_only_the_decoder_sees_is_named_in_its_plain_words():
    flac = encode(tone(), kind="FLAC/PCM_16")
    with (
        pytest.raises(AudioError, match="damaged header") as caught,
        open_sound(io.BytesIO(flac[:4] + flac[200:])),
    ):
        pass
    assert "object at" not in str(caught.value)
