"""Headers: each container is known by its bytes, and a cut is found without decoding."""

import io
import struct

import numpy as np
import pytest
import soundfile as sf

from tests.audio.conftest import encode, tone, wav_bytes
from xmoe.audio.containers import Header, read_header, sniff_container
from xmoe.base.errors import AudioError

COUNTED = {
    "WAV/PCM_16": "RIFF",
    "WAVEX/FLOAT": "RIFF",
    "RF64/PCM_16": "RF64",
    "W64/PCM_24": "W64",
    "AIFF/PCM_24": "AIFF",
    "AU/PCM_16": "AU",
    "OGG/VORBIS": "OGG",
    "OGG/OPUS": "OGG",
}


def header_of(raw: bytes) -> Header:
    return read_header(lambda offset, count: raw[offset : offset + count], len(raw), where="x")


def code_of(raw: bytes) -> str:
    with pytest.raises(AudioError) as caught:
        header_of(raw)
    return caught.value.code


@pytest.mark.parametrize(("kind", "container"), COUNTED.items())
def test_whole_files_hold_what_they_promise(kind, container):
    header = header_of(encode(tone(), kind=kind))
    assert header.container == container
    assert header.declared_bytes is not None
    assert header.present_bytes >= header.declared_bytes


@pytest.mark.parametrize("kind", COUNTED)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_cut_files_are_found(kind, share):
    raw = encode(tone(duration_s=4.0), kind=kind)
    assert code_of(raw[: int(share * len(raw)) // 4 * 4 + 1]) == "truncated"


def test_an_ogg_cut_inside_a_page_mark_is_found():
    raw = encode(tone(duration_s=4.0), kind="OGG/VORBIS")
    last_page = raw.rfind(b"OggS")
    assert [code_of(raw[: last_page + extra]) for extra in (1, 2, 3, 10)] == ["truncated"] * 4


@pytest.mark.parametrize("kind", [kind for kind in COUNTED if not kind.startswith("OGG")])
def test_channels_are_read_before_decoding(kind):
    assert header_of(encode(tone(), kind=kind)).channels == 1


def test_flac_and_mp3_promise_no_bytes():
    assert header_of(encode(tone(), kind="FLAC/PCM_16")) == Header("FLAC")
    assert header_of(encode(tone(), kind="MP3/MPEG_LAYER_III")) == Header("MP3")


def test_big_endian_wav_is_walked():
    fmt = struct.pack(">HHIIHH", 1, 2, 8000, 32_000, 4, 16)
    raw = b"RIFX" + bytes(4) + b"WAVEfmt " + struct.pack(">I", 16) + fmt
    raw += b"data" + struct.pack(">I", 400) + bytes(400)
    assert header_of(raw) == Header("RIFX", 2, 8000, 400, 400)
    assert code_of(raw[:-1]) == "truncated"


def with_chunk(name: bytes, body: bytes, *, padded: bool) -> bytes:
    raw = wav_bytes()
    chunk = name + struct.pack("<I", len(body)) + body + (b"\0" if padded else b"")
    return raw[:36] + chunk + raw[36:]


@pytest.mark.parametrize("padded", [True, False])
def test_an_odd_chunk_may_lack_its_pad_byte(padded):
    raw = with_chunk(b"LIST", b"odd", padded=padded)
    assert header_of(raw).declared_bytes == 32_000


def test_more_chunks_than_anyone_writes_are_given_up():
    raw = wav_bytes()[:36] + (b"JUNK" + bytes(4)) * 20_000 + wav_bytes()[36:]
    assert code_of(raw) == "truncated"


def test_trailing_chunks_after_the_audio_are_no_cut():
    assert header_of(wav_bytes() + b"id3 \x04\0\0\0abcd").declared_bytes == 32_000


def test_au_may_leave_its_length_open():
    raw = bytearray(encode(tone(), kind="AU/PCM_16"))
    raw[8:12] = b"\xff\xff\xff\xff"
    assert header_of(bytes(raw)).declared_bytes is None


def test_rf64_takes_its_length_from_ds64():
    raw = encode(tone(), kind="RF64/PCM_16")
    assert b"ds64" in raw[:40]
    assert header_of(raw).declared_bytes == 16_000


@pytest.mark.parametrize(
    ("head", "container"),
    [
        (b"ID3\x04" + bytes(28), "MP3"),
        (b"\xff\xfb\x90\x64" + bytes(28), "MP3"),
        (b"fLaC" + bytes(28), "FLAC"),
        (b"dns." + bytes(28), "AU"),
    ],
)
def test_sniffing_goes_by_the_bytes(head, container):
    assert sniff_container(head, where="x") == container


@pytest.mark.parametrize("head", [b"\xff\xff\xff\xff", b"\xff\xe0\x00\x00", b"\xff\xfb", b""])
def test_what_only_resembles_mpeg_is_not_audio(head):
    with pytest.raises(AudioError) as caught:
        sniff_container(head, where="x")
    assert caught.value.code == "not_audio"


def test_foreign_formats_are_named_with_a_way_to_convert():
    with pytest.raises(AudioError, match="M4A") as caught:
        sniff_container(b"\0\0\0\x20ftypM4A " + bytes(20), where="x")
    assert caught.value.code == "unsupported"
    assert "ffmpeg" in caught.value.mend


@pytest.mark.parametrize(
    ("raw", "mend"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 72862\n",
            "git lfs pull",
        ),
        (b"/annex/objects/SHA256E-s72862--4d.wav\n", "git annex get"),
        (b"<!DOCTYPE html>\n<html><body>Not found</body></html>", "download the recording again"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "download"),
    ],
)
def test_what_stands_in_place_of_a_recording_is_told(raw, mend):
    with pytest.raises(AudioError) as caught:
        header_of(raw)
    assert caught.value.code == "not_audio"
    assert mend in (caught.value.mend or "")


def wav(declared, audio, after=b""):
    form = struct.pack("<IHHIIHH", 16, 1, 1, 16000, 32000, 2, 16)
    return b"RIFF\0\0\0\0WAVEfmt " + form + b"data" + struct.pack("<I", declared) + audio + after


PCM = (np.sin(np.arange(60_000) * 0.3) * 9000).astype("<i2").tobytes()


@pytest.mark.parametrize("declared", [0, 32_000, 0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
def test_a_length_that_was_never_written_is_told_with_its_mend(declared):
    with pytest.raises(AudioError, match="-ignore_length 1") as caught:
        header_of(wav(declared, PCM))
    assert caught.value.code == "truncated"


@pytest.mark.parametrize(
    "after",
    [b"", b"LIST" + struct.pack("<I", 9) + b"123456789\0", b"TAG" + b"x" * 125, bytes(1 << 20)],
)
def test_chunks_tags_and_padding_after_the_audio_are_no_loss(after):
    header = header_of(wav(len(PCM), PCM, after))
    assert header.declared_bytes == len(PCM)


def test_a_length_that_wrapped_round_is_told_with_both_numbers():
    size = 44 + (1 << 32) + 64_000
    head = wav(64_000, b"")

    def read_at(offset, count):
        return head[offset : offset + count].ljust(min(count, size - offset), b"\0")

    with pytest.raises(AudioError, match=f"promises 64000 bytes of audio, and {1 << 32} more"):
        read_header(read_at, size, where="x")


def test_another_recording_behind_the_first_is_not_passed_over():
    with pytest.raises(AudioError, match="more follow"):
        header_of(wav(len(PCM), PCM, wav(len(PCM), PCM)))


@pytest.mark.parametrize("kind", ["VORBIS", "OPUS"])
def test_ogg_streams_one_after_another_are_found(kind):
    written = io.BytesIO()
    sf.write(written, np.sin(np.arange(16000) * 0.3), 16000, format="OGG", subtype=kind)
    data = written.getvalue()
    assert header_of(data).streams == (0,)
    assert header_of(data * 3).streams == (0, len(data), 2 * len(data))


def test_more_streams_than_anyone_joins_are_refused():
    page = b"OggS\0" + b"\2" + bytes(20) + b"\1\1" + b"x"
    other = b"OggS\0" + b"\0" + bytes(20) + b"\1\1" + b"x"
    with pytest.raises(AudioError, match="1001 streams one after another, at most 1000"):
        header_of((page + other) * 1001)
