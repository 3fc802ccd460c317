"""A recording is heard from a path, bytes, a file or numbers; one is told from several."""

import io
import os

import numpy as np
import pytest
import soundfile as sf
import torch

from xmoe.audio.clip import read_clip
from xmoe.audio.hearing import hear, is_one
from xmoe.audio.reading import Reading
from xmoe.base.errors import AudioError, InputError

RATE_HZ = 8000
TONE = np.sin(np.arange(800) * 0.3).astype(np.float32)


@pytest.fixture
def path(tmp_path):
    sf.write(tmp_path / "a.wav", TONE / 2, RATE_HZ, subtype="FLOAT")
    return tmp_path / "a.wav"


def test_every_form_of_a_file_is_heard_alike(path):
    data = path.read_bytes()
    with path.open("rb") as file:
        for one in (
            path,
            str(path),
            data,
            bytearray(data),
            memoryview(data),
            file,
            io.BytesIO(data),
        ):
            heard = hear(one)
            assert np.array_equal(heard.samples, TONE / 2)
            assert heard.sample_rate_hz == RATE_HZ


def test_a_pipe_is_heard(path):
    reading, writing = os.pipe()
    os.write(writing, path.read_bytes())
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        assert len(hear(pipe).samples) == 800


def test_a_file_opened_as_text_is_refused_with_the_right_mode(path):
    with path.open(encoding="latin-1") as file, pytest.raises(InputError, match='mode "rb"'):
        hear(file)


def test_bytes_that_are_no_recording_are_an_audio_error():
    with pytest.raises(AudioError):
        hear(b"nonsense" * 20)


@pytest.mark.parametrize(
    ("given", "one"),
    [
        ("a.wav", True),
        (b"RIFF", True),
        (TONE, True),
        (torch.from_numpy(TONE), True),
        (np.stack([TONE, TONE], 1), True),
        (np.stack([TONE, TONE]), False),
        (["a.wav"], False),
        (np.array(["a.wav", "b.wav"]), False),
        (np.array(["a.wav", "b.wav"], object), False),
        ((name for name in "ab"), False),
    ],
)
def test_one_recording_is_told_from_several(given, one):
    assert is_one(given, RATE_HZ) is one


def test_a_clip_that_was_read_is_heard_as_it_is(tmp_path):
    stereo = np.stack([np.zeros(8000), 0.5 * np.ones(8000)], 1)
    sf.write(tmp_path / "a.wav", stereo, 8000)
    clip = read_clip(tmp_path / "a.wav", reading=Reading(channel=2))
    assert hear(clip).samples is clip.samples
    assert is_one(clip, None)
