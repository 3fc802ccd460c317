"""File bytes -> the container's own claims, checked against the bytes that are there.

libsndfile silently reads a cut WAV, AIFF, AU, W64 or RF64 file and returns fewer frames, so each
header is walked here first and its promise compared with the file's size. Knowing the container
before libsndfile sees it also keeps the rarely used parsers (ADPCM, SD2, MAT, ...) away from
untrusted files, and gives every refusal a code and a remedy.

Sources: RFC 2361 and EBU Tech 3306 (WAV, RF64), Apple AIFF-C 1991, RFC 3533 (Ogg), Sony Wave64.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

from xmoe.audio.text import LFS_MEND, LFS_POINTER
from xmoe.base.errors import AudioError

ReadAt = Callable[[int, int], bytes]

CONVERT = "convert it to WAV or FLAC, for example: ffmpeg -i INPUT output.wav"
COPY_AGAIN = "copy or export the file again from its source, or leave it out"
REPAIR_LENGTH = (
    "write the header anew, for example: "
    "ffmpeg -ignore_length 1 -i INPUT -c copy -rf64 auto output.wav"
)
SPLIT_STREAMS = "cut it into its parts, or make one recording: ffmpeg -i INPUT output.wav"

# A crafted file must not keep the walkers busy.
MAX_CHUNKS, MAX_STREAMS = 10_000, 1_000
_UNKNOWN_LENGTH = 0xFFFFFFFF
# Placeholders of writers that fill in the length later: nothing, or about the maximum.
_PLACEHOLDERS, _NEAR = (0x7FFFFFFF, 0xFFFFFFFF), 0x1000
_TRAILER_BYTES = 1 << 16  # tags and padding outside any chunk
_WAV_TAGS = {1: "PCM", 3: "float", 6: "A-law", 7: "mu-law"}
_EXTENSIBLE = 0xFFFE
_W64_RIFF = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00"
_OGG_MAX_PAGE = 27 + 255 + 255 * 255

# Magic bytes of formats that people send but xmoe does not read: (offset, bytes, name).
_FOREIGN: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x1aE\xdf\xa3", "WebM or Matroska"),
    (4, b"ftyp", "MP4 or M4A"),
    (0, b"0&\xb2u\x8ef\xcf\x11", "WMA"),
    (0, b"caff", "CAF"),
    (0, b"NIST_1A", "NIST SPHERE"),
    (0, b"#!AMR", "AMR"),
    (0, b"wvpk", "WavPack"),
    (0, b"MAC ", "Monkey's Audio"),
    (0, b"Creative Voice", "VOC"),
    (0, b"BW64", "BW64"),
    (0, b"MATLAB 5", "MATLAB"),
    (0, b"\x93NUMPY", "NumPy array"),
    (0, b"MThd", "MIDI"),
    (0, b"\x64\xa3", "IRCAM"),
)

# What may be in place of a recording: (first bytes in lower case, what it is, what to do).
_NO_SOUND: tuple[tuple[bytes, str, str], ...] = (
    (LFS_POINTER, "is a Git LFS pointer, not the recording itself", LFS_MEND),
    (
        b"/annex/objects/",
        "is a git-annex pointer, not the recording itself",
        "fetch the recordings: git annex get .",
    ),
    (b"<!doctype html", "is a web page, not a recording", "download the recording again"),
    (b"<html", "is a web page, not a recording", "download the recording again"),
    (b"<?xml", "is an XML page, not a recording", "download the recording again"),
)


@dataclass(frozen=True)
class Header:
    """What a container claims before anything is decoded; ``None`` where it claims nothing.

    ``declared_bytes`` of audio are promised, ``present_bytes`` are in the file; ``stray_bytes`` of
    these follow the audio and belong to no chunk. ``streams`` are the offsets of chained streams.
    """

    container: str
    channels: int | None = None
    sample_rate_hz: int | None = None
    declared_bytes: int | None = None
    present_bytes: int | None = None
    stray_bytes: int = 0
    streams: tuple[int, ...] = (0,)


def read_header(read_at: ReadAt, size_bytes: int, *, where: str) -> Header:
    """Identify the container of a file of ``size_bytes`` and check that its audio is complete.

    ``read_at(offset, count)`` returns at most ``count`` bytes. Raises ``AudioError`` with code
    ``empty``, ``not_audio``, ``unsupported``, ``truncated``, ``bad_rate`` or ``bad_channels``.
    """
    if size_bytes == 0:
        raise AudioError("empty", "the file has 0 bytes", where=where, mend=COPY_AGAIN)
    container = sniff_container(read_at(0, 32), where=where)
    header = _WALKERS[container](read_at, size_bytes, where)
    if header.channels is not None and not 1 <= header.channels <= 1024:
        what = f"the header claims {header.channels} channels"
        raise AudioError("bad_channels", what, where=where, mend=CONVERT)
    if header.sample_rate_hz is not None and not 1 <= header.sample_rate_hz < 1 << 31:
        what = f"the header claims a rate of {header.sample_rate_hz} Hz"
        raise AudioError("bad_rate", what, where=where, mend=CONVERT)
    _check_length(header, where)
    return header


def sniff_container(head: bytes, *, where: str) -> str:
    """The container that the first 32 bytes of a file belong to, whatever its name says."""
    if head[:4] in (b"RIFF", b"RIFX", b"RF64") and head[8:12] == b"WAVE":
        return head[:4].decode()
    if head[:16] == _W64_RIFF:
        return "W64"
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return "AIFF"
    simple = {b".snd": "AU", b"dns.": "AU", b"fLaC": "FLAC", b"OggS": "OGG"}
    if head[:4] in simple:
        return simple[head[:4]]
    if head[:3] == b"ID3" or _is_mpeg_frame(head):
        return "MP3"
    for offset, magic, name in _FOREIGN:
        if head[offset : offset + len(magic)] == magic:
            raise AudioError("unsupported", f"{name} is not read", where=where, mend=CONVERT)
    for magic, what, mend in _NO_SOUND:
        if head.lower().startswith(magic):
            raise AudioError("not_audio", what, where=where, mend=mend)
    what = "the bytes are not a known audio format, whatever the name says"
    mend = "accepted: WAV, RF64, W64, AIFF, AU, FLAC, OGG, MP3; convert it or leave it out"
    raise AudioError("not_audio", what, where=where, mend=mend)


def _is_mpeg_frame(head: bytes) -> bool:
    """Whether the bytes start an MPEG audio frame: sync, a layer, a bit rate and a rate."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return False
    has_layer = head[1] & 0x06 != 0
    return has_layer and head[2] >> 4 != 15 and (head[2] >> 2) & 3 != 3


def _check_length(header: Header, where: str) -> None:
    if header.declared_bytes is None or header.present_bytes is None:
        return
    declared, present = header.declared_bytes, header.present_bytes
    if header.stray_bytes > _TRAILER_BYTES or (declared == 0 < header.stray_bytes):
        what = (
            f"the length in the header is wrong: it promises {declared} bytes of audio, and "
            f"{header.stray_bytes} more follow"
        )
        raise AudioError("truncated", what, where=where, mend=REPAIR_LENGTH)
    unknown = any(abs(declared - length) <= _NEAR for length in _PLACEHOLDERS)
    if unknown and declared > present:
        what = (
            "the header leaves the length open (written as a stream), so a cut would go unnoticed"
        )
        raise AudioError("truncated", what, where=where, mend=REPAIR_LENGTH)
    if declared > present:
        what = (
            f"cut short: the header promises {declared} bytes of audio, {max(present, 0)} are there"
        )
        raise AudioError("truncated", what, where=where, mend=COPY_AGAIN)


def _no_audio_chunk(where: str) -> AudioError:
    what = "the header ends before any audio begins"
    return AudioError("truncated", what, where=where, mend=COPY_AGAIN)


def _walk_riff(read_at: ReadAt, size: int, where: str) -> Header:
    """Walk RIFF, RIFX or RF64 chunks up to ``data``."""
    magic = read_at(0, 4).decode()
    order = ">" if magic == "RIFX" else "<"
    channels = rate = long_data = None
    position = 12
    for _ in range(MAX_CHUNKS):
        head = read_at(position, 8)
        if len(head) < 8:
            break
        length = struct.unpack(order + "I", head[4:])[0]
        body = position + 8
        if head[:4] == b"fmt ":
            channels, rate = _parse_wave_format(read_at(body, min(length, 40)), order, where)
        elif head[:4] == b"ds64" and length >= 16:
            long_data = struct.unpack("<Q", read_at(body + 8, 8).ljust(8, b"\0"))[0]
        elif head[:4] == b"data":
            if magic == "RF64" and length == _UNKNOWN_LENGTH and long_data is not None:
                length = long_data
            end = body + length
            stray = _stray_bytes(read_at, end + length % 2, size, order)
            return Header(magic, channels, rate, length, size - body, stray)
        position = body + length + _pad_after(read_at, body + length, length)
    raise _no_audio_chunk(where)


def _stray_bytes(read_at: ReadAt, position: int, size: int, order: str) -> int:
    """Number of bytes from ``position`` to the end that are in no chunk; zeros are padding."""
    for _ in range(MAX_CHUNKS):
        head = read_at(position, 8)
        if len(head) < 8:
            return 0
        end = position + 8 + struct.unpack(order + "I", head[4:])[0]
        chunk = head[:4].isascii() and head[:4].decode().isprintable() and end <= size + 1
        if head[:4] in (b"RIFF", b"RIFX", b"RF64", b"FORM") or not chunk:
            break
        position = end + end % 2
    rest = size - position
    padding = rest < 1 << 32 and not read_at(position, 1 << 12).strip(b"\0")
    return 0 if padding else rest


def _pad_after(read_at: ReadAt, end: int, length: int) -> int:
    """1 if an odd chunk is padded as the standard demands; some writers forget the byte."""
    if length % 2 == 0:
        return 0
    following = read_at(end, 5)
    unpadded = following[:4] in (b"data", b"fmt ", b"LIST", b"bext", b"fact", b"JUNK")
    return 0 if unpadded else 1


def _parse_wave_format(body: bytes, order: str, where: str) -> tuple[int, int]:
    """(channels, rate) of a ``fmt `` chunk, after checking that its coding is plain."""
    if len(body) < 16:
        raise _no_audio_chunk(where)
    tag, channels, rate, _, _, bits = struct.unpack(order + "HHIIHH", body[:16])
    if tag == _EXTENSIBLE and len(body) >= 28:
        tag = struct.unpack(order + "I", body[24:28])[0]
    if tag not in _WAV_TAGS:
        what = f"WAV with coding {tag:#06x} is not read (only PCM, float, A-law and mu-law are)"
        raise AudioError("unsupported", what, where=where, mend=CONVERT)
    if bits < 8:
        what = f"the header claims {bits} bits per sample"
        raise AudioError("unreadable", what, where=where, mend=CONVERT)
    return channels, rate


def _walk_w64(read_at: ReadAt, size: int, where: str) -> Header:
    """Walk Wave64 chunks: 16-byte ids, 64-bit lengths that count their own 24-byte head."""
    channels = rate = None
    position = 40
    for _ in range(MAX_CHUNKS):
        head = read_at(position, 24)
        if len(head) < 24:
            break
        length = struct.unpack("<Q", head[16:])[0]
        if head[:4] == b"fmt ":
            channels, rate = _parse_wave_format(read_at(position + 24, 40), "<", where)
        elif head[:4] == b"data":
            return Header("W64", channels, rate, max(length - 24, 0), size - position - 24)
        position += max((length + 7) // 8 * 8, 24)
    raise _no_audio_chunk(where)


def _walk_aiff(read_at: ReadAt, size: int, where: str) -> Header:
    """Walk AIFF or AIFF-C chunks up to ``SSND``."""
    channels = None
    position = 12
    for _ in range(MAX_CHUNKS):
        head = read_at(position, 8)
        if len(head) < 8:
            break
        length = struct.unpack(">I", head[4:])[0]
        if head[:4] == b"COMM":
            channels = struct.unpack(">H", read_at(position + 8, 2).ljust(2, b"\0"))[0]
        elif head[:4] == b"SSND":
            return Header("AIFF", channels, None, max(length - 8, 0), size - position - 16)
        position += 8 + length + length % 2
    raise _no_audio_chunk(where)


def _walk_au(read_at: ReadAt, size: int, where: str) -> Header:
    """Read the AU header; the standard allows an open length, which is accepted."""
    head = read_at(0, 24)
    if len(head) < 24:
        raise _no_audio_chunk(where)
    order = ">" if head[:4] == b".snd" else "<"
    offset, length, _, rate, channels = struct.unpack(order + "5I", head[4:24])
    declared = None if length == _UNKNOWN_LENGTH else length
    return Header("AU", channels, rate, declared, size - offset)


def _walk_ogg(read_at: ReadAt, size: int, where: str) -> Header:
    """Check that the last Ogg page ends inside the file and that no other page starts there."""
    streams = _find_ogg_streams(read_at)
    if len(streams) > MAX_STREAMS:
        what = f"holds {len(streams)} streams one after another, at most {MAX_STREAMS} are read"
        raise AudioError("unsupported", what, where=where, mend=SPLIT_STREAMS)
    start = max(size - _OGG_MAX_PAGE, 0)
    tail = read_at(start, _OGG_MAX_PAGE)
    page = tail.rfind(b"OggS")
    if page < 0:
        raise _no_audio_chunk(where)
    table = tail[page + 26 : page + 27 + 255]
    segments = table[1 : 1 + table[0]] if table else b""
    if not table or len(segments) < table[0]:
        return Header("OGG", declared_bytes=27, present_bytes=len(tail) - page, streams=streams)
    length = 27 + len(segments) + sum(segments)
    rest = tail[page + length :]
    if rest and b"OggS".startswith(rest):
        length += 27
    return Header("OGG", declared_bytes=length, present_bytes=len(tail) - page, streams=streams)


def _find_ogg_streams(read_at: ReadAt) -> tuple[int, ...]:
    """Offsets of the streams; streams that start together (audio with pictures) are one."""
    position, streams = 0, []
    opening = False
    while (head := read_at(position, 282))[:4] == b"OggS" and len(head) >= 27:
        begins = bool(head[5] & 2)
        if begins and not opening:
            streams.append(position)
        opening = begins
        position += 27 + head[26] + sum(head[27 : 27 + head[26]])
    return tuple(streams)


_WALKERS: dict[str, Callable[[ReadAt, int, str], Header]] = {
    **dict.fromkeys(("RIFF", "RIFX", "RF64"), _walk_riff),
    "W64": _walk_w64,
    "AIFF": _walk_aiff,
    "AU": _walk_au,
    "OGG": _walk_ogg,
    # They promise frames (MP3 an estimate), not bytes: the decoder's count is compared later.
    "FLAC": lambda *_: Header("FLAC"),
    "MP3": lambda *_: Header("MP3"),
}
