"""Streams one after another are one recording, whole and in any part of it."""

import io

import numpy as np
import pytest
import soundfile as sf

from tests.audio.conftest import encode, tone
from xmoe.audio.clip import open_blocks, read_clip, read_info
from xmoe.base.errors import AudioError

RATE_HZ = 16_000
VORBIS, OPUS = "OGG/VORBIS", "OGG/OPUS"


def songs(kind: str) -> list[bytes]:
    """Three streams of 1, 0.5 and 2 seconds."""
    pitches = zip((300.0, 900.0, 500.0), (1.0, 0.5, 2.0), strict=True)
    return [encode(tone(frequency_hz=f, duration_s=s), kind=kind) for f, s in pitches]


def decoded(parts: list[bytes]) -> np.ndarray:
    return np.concatenate([sf.read(io.BytesIO(part), dtype="float32")[0] for part in parts])


@pytest.mark.parametrize("kind", [VORBIS, OPUS])
def test_all_streams_are_heard_in_order(kind):
    clip = read_clip(io.BytesIO(b"".join(songs(kind))))
    whole = decoded(songs(kind))
    np.testing.assert_array_equal(clip.samples, whole)
    assert clip.duration_s == pytest.approx(3.5, abs=0.01)
    assert (clip.info.frames, clip.info.streams) == (len(whole), 3)
    assert clip.decoded.notes == ("joined: 3 streams one after another are read as one recording",)


@pytest.mark.parametrize("start_s", [0.0, 0.9, 1.0, 1.2, 1.6])
def test_a_part_may_lie_across_streams(tmp_path, start_s):
    path = tmp_path / "radio.ogg"
    path.write_bytes(b"".join(songs(VORBIS)))
    part = read_clip(path, start_s=start_s, end_s=start_s + 1.0)
    first = round(start_s * RATE_HZ)
    whole = decoded(songs(VORBIS))[first : first + RATE_HZ]
    np.testing.assert_allclose(part.samples, whole, atol=1e-6)


def test_blocks_go_on_from_stream_to_stream():
    with open_blocks(io.BytesIO(b"".join(songs(VORBIS))), block_frames=7_000) as (_, blocks, _):
        parts = list(blocks)
    assert {len(part) for part in parts[:-1]} == {7_000}
    np.testing.assert_array_equal(np.concatenate(parts), decoded(songs(VORBIS)))


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (encode(tone(), rate=8_000, kind=VORBIS), "8000 Hz x 1"),
        (encode(np.stack([tone()] * 2, 1), kind=VORBIS), "16000 Hz x 2"),
        (encode(tone(sample_rate_hz=48_000), rate=48_000, kind=OPUS), "OPUS"),
    ],
)
def test_streams_that_differ_are_refused_with_both_kinds(other, said):
    with pytest.raises(
        AudioError, match=r"2 streams .* that differ: 16000 Hz x 1 VORBIS"
    ) as caught:
        read_info(io.BytesIO(songs(VORBIS)[0] + other))
    assert caught.value.code == "unsupported"
    assert said in caught.value.what
    assert "ffmpeg" in (caught.value.mend or "")


def test_a_second_stream_that_is_cut_is_an_error_and_no_shorter_clip():
    data = b"".join(songs(VORBIS)[:2])
    with pytest.raises(AudioError):
        read_clip(io.BytesIO(data[:-500]))
