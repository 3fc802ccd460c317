"""Decoding: known samples come back, parts are exact, whatever is wrong has its code."""

import io
import os
import re
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.audio.conftest import encode, lying_flac, tone, wav_bytes
from xmoe.audio.clip import (
    DEFAULT_LIMITS,
    Clip,
    DecodeLimits,
    open_blocks,
    read_clip,
    read_info,
)
from xmoe.base.errors import AudioError

LOSSLESS = {
    "WAV/PCM_U8": 2**-7,
    "WAV/PCM_16": 2**-15,
    "WAV/PCM_24": 2**-23,
    "WAV/PCM_32": 2**-23,
    "WAV/FLOAT": 0.0,
    "WAV/DOUBLE": 0.0,
    "WAV/ULAW": 0.02,
    "WAV/ALAW": 0.02,
    "WAVEX/PCM_24": 2**-23,
    "RF64/PCM_16": 2**-15,
    "W64/PCM_16": 2**-15,
    "AIFF/PCM_16": 2**-15,
    "AU/PCM_16": 2**-15,
    "FLAC/PCM_S8": 2**-7,
    "FLAC/PCM_16": 2**-15,
    "FLAC/PCM_24": 2**-23,
}
LOSSY = ("OGG/VORBIS", "OGG/OPUS", "MP3/MPEG_LAYER_III")


def refusal(source: object, **options: object) -> AudioError:
    with pytest.raises(AudioError) as caught:
        read_clip(source if not isinstance(source, bytes) else io.BytesIO(source), **options)
    assert caught.value.mend
    assert not re.search(r"0x[0-9a-f]{6,}", str(caught.value))
    return caught.value


@pytest.mark.parametrize(("kind", "step"), LOSSLESS.items())
def test_samples_come_back(kind, step):
    samples = tone()
    clip = read_clip(io.BytesIO(encode(samples, kind=kind)))
    np.testing.assert_allclose(clip.samples, samples, atol=step + 1e-7)
    assert clip.samples.dtype == np.float32
    assert (clip.sample_rate_hz, clip.duration_s) == (16_000, 0.5)


@pytest.mark.parametrize("kind", LOSSY)
def test_lossy_coding_keeps_the_tone_and_has_no_bit_depth(kind):
    clip = read_clip(io.BytesIO(encode(tone(), kind=kind)))
    spectrum = np.abs(np.fft.rfft(clip.samples))
    assert np.argmax(spectrum) * 16_000 / len(clip.samples) == pytest.approx(440.0, abs=2.5)
    assert clip.info.bit_depth == 0


def test_info_says_what_the_header_says(write_audio):
    stereo = np.stack([tone(sample_rate_hz=44_100)] * 2, axis=1)
    info = read_info(write_audio("a.flac", stereo, rate=44_100, kind="FLAC/PCM_24"))
    assert (info.sample_rate_hz, info.channels, info.frames) == (44_100, 2, 22_050)
    assert (info.format, info.subtype, info.bit_depth) == ("FLAC", "PCM_24", 24)
    assert info.duration_s == 0.5


def test_channels_are_averaged():
    left, right = tone(), tone(frequency_hz=1000.0)
    clip = read_clip(io.BytesIO(encode(np.stack([left, right], axis=1), kind="WAV/FLOAT")))
    np.testing.assert_allclose(clip.samples, (left + right) / 2, atol=1e-7)


def test_eight_channels_are_read_and_nine_are_not():
    silent = np.zeros((8000, 9), dtype=np.float32)
    assert read_clip(io.BytesIO(encode(silent[:, :8]))).info.channels == 8
    assert refusal(encode(silent)).code == "bad_channels"


@pytest.mark.parametrize("kind", [*LOSSLESS, *LOSSY])
def test_a_part_is_the_same_as_the_whole_cut(kind, rng):
    samples = (0.1 * rng.standard_normal(48_000)).astype(np.float32)
    raw = encode(samples, kind=kind)
    whole = read_clip(io.BytesIO(raw)).samples
    part = read_clip(io.BytesIO(raw), start_s=1.2345, end_s=2.5).samples
    np.testing.assert_allclose(part, whole[19_752:40_000], atol=1e-6)


def test_a_part_of_a_long_file_is_within_the_limits():
    raw = encode(np.zeros(160_000, dtype=np.float32), kind="FLAC/PCM_16")
    limits = DecodeLimits(max_duration_s=2.0)
    assert refusal(raw, limits=limits).code == "too_long"
    part = read_clip(io.BytesIO(raw), start_s=7.0, end_s=8.5, limits=limits)
    assert part.duration_s == 1.5


def test_an_end_past_the_end_means_the_end():
    assert read_clip(io.BytesIO(encode(tone())), start_s=0.25, end_s=9.0).duration_s == 0.25


@pytest.mark.parametrize(("start_s", "end_s"), [(0.5, None), (3.0, 4.0), (0.3, 0.2), (-1.0, None)])
def test_a_part_outside_the_recording_is_refused(start_s, end_s):
    assert refusal(encode(tone()), start_s=start_s, end_s=end_s).code == "too_short"


def test_blocks_do_not_change_anything(rng, monkeypatch):
    loud = np.clip(rng.standard_normal((5000, 2)), -1, 1).astype(np.float32)
    loud[1234:1250] = 1.0
    raw = encode(loud)
    whole = read_clip(io.BytesIO(raw))
    monkeypatch.setattr("xmoe.audio.clip.BLOCK_VALUES", 14)
    small = read_clip(io.BytesIO(raw))
    np.testing.assert_array_equal(small.samples, whole.samples)
    assert small.clipped_rate == whole.clipped_rate > 0
    assert (small.content_sha256, small.peak) == (whole.content_sha256, whole.peak)


def test_hash_is_of_the_content_not_of_the_file(write_audio):
    samples = np.round(tone() * 2**15) / 2**15
    wav = write_audio("a.wav", samples)
    flac = write_audio("b.flac", samples, kind="FLAC/PCM_16")
    assert read_clip(wav).content_sha256 == read_clip(flac).content_sha256
    other_rate = write_audio("c.wav", samples, rate=8_000)
    assert read_clip(other_rate).content_sha256 != read_clip(wav).content_sha256
    assert read_clip(wav, end_s=0.4).content_sha256 != read_clip(wav).content_sha256


def test_path_stream_and_file_object_agree(write_audio):
    path = write_audio()
    with path.open("rb") as file:
        file.read(100)
        clips = [read_clip(path), read_clip(str(path)), read_clip(file)]
        clips.append(read_clip(io.BytesIO(path.read_bytes())))
        assert not file.closed
    assert len({clip.content_sha256 for clip in clips}) == 1


def test_the_name_of_a_file_does_not_matter(write_audio):
    path = write_audio("really_flac.raw", kind="FLAC/PCM_16")
    assert read_clip(path).info.format == "FLAC"


def test_silence_and_full_scale_are_read():
    silent = read_clip(io.BytesIO(encode(np.zeros(8000, dtype=np.float32))))
    assert (silent.peak, silent.clipped_rate) == (0.0, 0.0)
    loud = read_clip(io.BytesIO(encode(np.ones(8000, dtype=np.float32))))
    assert loud.clipped_rate == 1.0
    assert loud.peak == pytest.approx(1.0, abs=1e-4)


def floats(value: float, kind: str = "WAV/FLOAT") -> bytes:
    samples = np.zeros(8000, dtype=np.float64)
    samples[4000] = value
    return encode(samples, kind=kind)


# Each with the code that a caller turns into a status; most of these libsndfile reads in silence.
BAD_BYTES = {
    "no bytes": (b"", "empty"),
    "one byte": (b"R", "not_audio"),
    "text": (b"this is no audio at all, only a sentence" * 20, "not_audio"),
    "html": (b"<!DOCTYPE html><html><body>404</body></html>", "not_audio"),
    "zip": (b"PK\x03\x04" + bytes(200), "not_audio"),
    "noise": (np.random.default_rng(5).bytes(4096), "not_audio"),
    "RIFF only": (b"RIFF", "not_audio"),
    "AVI": (b"RIFF\x00\x00\x00\x00AVI " + bytes(100), "not_audio"),
    "header without data": (wav_bytes()[:36], "truncated"),
    "header cut": (wav_bytes()[:27], "truncated"),
    "cut in half": (wav_bytes()[:16_000], "truncated"),
    "one byte short": (wav_bytes()[:-1], "truncated"),
    "length left open": (wav_bytes(declared=0xFFFFFFFF), "truncated"),
    "no samples": (wav_bytes(b""), "empty"),
    "one sample": (wav_bytes(b"\0\0"), "too_short"),
    "0 channels": (wav_bytes(channels=0), "bad_channels"),
    "9 channels": (wav_bytes(bytes(18 * 16_000), channels=9), "bad_channels"),
    "1000 channels": (wav_bytes(bytes(2000 * 1000), channels=1000), "bad_channels"),
    "65535 channels": (wav_bytes(channels=65_535), "bad_channels"),
    "0 Hz": (wav_bytes(rate=0), "bad_rate"),
    "1 Hz": (wav_bytes(rate=1), "bad_rate"),
    "655350 Hz": (wav_bytes(rate=655_350), "bad_rate"),
    "2^31 - 1 Hz": (wav_bytes(rate=2**31 - 1), "bad_rate"),
    "2^32 - 1 Hz": (wav_bytes(rate=2**32 - 1), "bad_rate"),
    "0 bits": (wav_bytes(bits=0), "unreadable"),
    "7 bits": (wav_bytes(bits=7), "unreadable"),
    "36 bits": (wav_bytes(bits=36), "unsupported"),
    "unknown coding": (wav_bytes(tag=99), "unsupported"),
    "MS ADPCM": (wav_bytes(tag=2, bits=4), "unsupported"),
    "IMA ADPCM": (wav_bytes(tag=17, bits=4), "unsupported"),
    "NaN": (floats(np.nan), "non_finite"),
    "infinity": (floats(np.inf), "non_finite"),
    "1e38": (floats(-1e38), "non_finite"),
    "double 1e300": (floats(1e300, "WAV/DOUBLE"), "non_finite"),
    "FLAC claims 2^32": (lying_flac(2**32), "too_long"),
    "FLAC claims 2^36": (lying_flac(2**36 - 1), "too_long"),
    "FLAC claims nothing": (lying_flac(0), "unreadable"),
    "FLAC claims one more": (lying_flac(8001), "truncated"),
    "FLAC cut": (encode(tone(duration_s=5.0), kind="FLAC/PCM_16")[:20_000], "truncated"),
    "OGG cut": (encode(tone(duration_s=9.0), kind="OGG/VORBIS")[:-900], "truncated"),
    "MP3 cut": (encode(tone(duration_s=9.0), kind="MP3/MPEG_LAYER_III")[:9_000], "truncated"),
    "MAT": (b"MATLAB 5.0 MAT-file" + bytes(200), "unsupported"),
    "WebM": (b"\x1aE\xdf\xa3" + bytes(200), "unsupported"),
    "M4A": (b"\0\0\0\x20ftypM4A " + bytes(200), "unsupported"),
    "CAF": (encode(tone(), kind="CAF/PCM_16"), "unsupported"),
    "AIFF with ADPCM": (encode(tone(), kind="AIFF/IMA_ADPCM"), "unsupported"),
}


@pytest.mark.parametrize("case", BAD_BYTES)
@pytest.mark.parametrize("as_file", [True, False], ids=["file", "stream"])
def test_bad_bytes_have_a_code_and_a_way_out(case, as_file, tmp_path):
    raw, code = BAD_BYTES[case]
    path = tmp_path / "upload.wav"
    path.write_bytes(raw)
    started = time.monotonic()
    error = refusal(path if as_file else raw, name="upload.wav")
    assert (error.code, error.where) == (code, "upload.wav")
    assert time.monotonic() - started < 2.0


def test_a_claim_within_the_limits_costs_no_memory():
    before = psutil.Process().memory_info().rss
    assert refusal(lying_flac(50_000_000)).code == "truncated"
    assert psutil.Process().memory_info().rss - before < 50_000_000


def test_no_memory_is_an_error_of_that_file(monkeypatch):
    def no_memory(*args, **kwargs):
        raise MemoryError

    raw = encode(tone())
    monkeypatch.setattr("xmoe.audio.clip.Tally.add", no_memory)
    assert refusal(raw).code == "too_large"


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        ({"max_bytes": 1000}, "too_large"),
        ({"max_samples": 7999}, "too_large"),
        ({"max_duration_s": 0.4}, "too_long"),
        ({"min_duration_s": 0.6}, "too_short"),
        ({"min_rate_hz": 22_050}, "bad_rate"),
        ({"max_rate_hz": 8_000}, "bad_rate"),
        ({"max_channels": 0}, "bad_channels"),
    ],
)
def test_every_limit_holds(limits, code):
    assert refusal(encode(tone()), limits=replace(DEFAULT_LIMITS, **limits)).code == code


def test_a_bomb_of_silence_is_refused_by_its_header():
    hour = encode(np.zeros(60 * 8000, dtype=np.float32), rate=8000, kind="FLAC/PCM_16")
    assert len(hour) < 10_000
    assert refusal(hour, limits=DecodeLimits(max_samples=400_000)).code == "too_large"


def test_minutes_of_many_channels_costs_no_memory(tmp_path):
    import soundfile as sf

    path = tmp_path / "bomb.flac"
    minute = np.zeros((60 * 48_000, 8), dtype=np.int16)
    with sf.SoundFile(path, "w", 48_000, 8, format="FLAC", subtype="PCM_16") as file:
        for _ in range(10):
            file.write(minute)
    before = psutil.Process().memory_info().rss
    assert refusal(path).code == "too_large"
    assert psutil.Process().memory_info().rss - before < 50_000_000


def clip_or_error(source: Path | io.BytesIO) -> Clip | AudioError:
    try:
        return read_clip(source)
    except AudioError as error:
        return error


def test_bad_files_give_a_clip_or_a_code(bad_files):
    codes = {
        *("missing", "empty", "not_audio", "unsupported", "truncated", "too_short", "too_long"),
        *("too_large", "bad_rate", "bad_channels", "non_finite", "unreadable"),
    }
    before = psutil.Process().memory_info().rss
    clips = 0
    for path in sorted(bad_files.iterdir()):
        started = time.monotonic()
        outcome = clip_or_error(path)
        if isinstance(outcome, AudioError):
            assert outcome.code in codes, path
            assert outcome.mend, path
        else:
            clips += 1
            assert np.isfinite(outcome.samples).all(), path
        assert time.monotonic() - started < 2.0, path
    assert clips >= 30
    assert psutil.Process().memory_info().rss - before < 100_000_000


def test_real_sets_decode_whole(real_data):
    for name in ("fsdd/recordings", "esc10/audio", "insect32/audio", "deepship2/audio"):
        paths = sorted(path for path in (real_data / name).rglob("*.*") if path.is_file())
        for path in paths[:: max(len(paths) // 5, 1)]:
            assert read_clip(path).peak > 0.0


def test_descriptors_are_closed(write_audio, tmp_path):
    good, bad = write_audio(), tmp_path / "bad.wav"
    bad.write_bytes(wav_bytes(tag=99))
    open_files = Path(f"/proc/{os.getpid()}/fd")
    if not open_files.is_dir():
        pytest.skip("no /proc here")
    before = len(list(open_files.iterdir()))
    for _ in range(20):
        read_clip(good)
        refusal(bad)
    assert len(list(open_files.iterdir())) == before


WHOLE = {
    kind: encode(tone(duration_s=0.2), kind=kind)
    for kind in (*LOSSLESS, *LOSSY)
    if kind.split("/")[1] in ("PCM_16", "FLOAT", "VORBIS", "OPUS", "MPEG_LAYER_III")
}
FLIPS = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), max_size=12)


@pytest.mark.parametrize("kind", WHOLE)
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(flips=FLIPS, head_only=st.booleans(), keep=st.floats(0.02, 1.0))
def test_damaged_files_give_a_clip_or_an_audio_error(kind, flips, head_only, keep):
    """Flip bytes (in the header only, or anywhere) and cut: nothing else may ever come out."""
    raw = bytearray(
        WHOLE[kind][: max(int(keep * len(WHOLE[kind])), 1)] if keep < 0.5 else WHOLE[kind]
    )
    for place, mask in flips:
        raw[int(place * min(len(raw), 120 if head_only else len(raw)))] ^= mask
    outcome = clip_or_error(io.BytesIO(bytes(raw)))
    if isinstance(outcome, AudioError):
        assert outcome.mend
        assert "object at" not in str(outcome)
    else:
        assert np.isfinite(outcome.samples).all()
        assert len(outcome.samples) / outcome.sample_rate_hz >= 0.01


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(raw=st.binary(max_size=300), magic=st.sampled_from([raw[:12] for raw in WHOLE.values()]))
def test_random_bytes_give_an_audio_error(raw, magic):
    assert isinstance(clip_or_error(io.BytesIO(raw)), AudioError)
    assert isinstance(clip_or_error(io.BytesIO(magic + raw)), AudioError)


@pytest.mark.parametrize("size", [1, 777, 8000, 1 << 20])
def test_blocks_joined_are_the_whole(write_audio, size):
    path = write_audio(samples=np.stack([tone(), -0.5 * tone()], 1))
    with open_blocks(path, block_frames=size) as (info, blocks, tally):
        parts = list(blocks)
    assert (info.channels, tally.num_clipped) == (2, 0)
    assert tally.hexdigest() == read_clip(path).content_sha256
    assert {len(part) for part in parts[:-1]} <= {size}
    np.testing.assert_array_equal(np.concatenate(parts), read_clip(path).samples)


def test_blocks_of_a_cut_stream_end_in_an_error():
    whole = encode(tone(duration_s=4.0), kind="FLAC/PCM_16")
    with (
        open_blocks(io.BytesIO(whole[: len(whole) // 2]), block_frames=1000) as (_, blocks, _),
        pytest.raises(AudioError) as caught,
    ):
        list(blocks)
    assert caught.value.code == "truncated"
