"""An audio file, or part of one -> ``Clip``: mono float32 samples and what was measured.

Files are untrusted. The header is checked against the file first (``xmoe.audio.containers``), the
limits before anything is allocated, and the samples are read in blocks and counted: a tiny FLAC
that claims 2^36 samples costs nothing. Whatever is wrong becomes an ``AudioError`` with a code,
never another exception, and never a shorter clip in silence.

Read: WAV, RF64 and W64 (PCM 8/16/24/32, float, double, A-law, mu-law), AIFF, AU, FLAC,
OGG (Vorbis, Opus) and MP3. Everything else is refused by name.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import numpy.typing as npt
import soundfile as sf

from xmoe.audio.containers import CONVERT, COPY_AGAIN, read_header
from xmoe.errors import AudioError

Source = str | os.PathLike[str] | BinaryIO
FloatSamples = npt.NDArray[np.float32]

BLOCK_VALUES = 1 << 18
PLAUSIBLE_PEAK = 2.0**31
CLIPPED_RUN = 3
_MP3_SLACK_FRAMES = 4 * 1152
_UNKNOWN_FRAMES = 1 << 48
_CUT_PART = "give start_s and end_s to use a part of it, or cut it into shorter files"

_BIT_DEPTHS = {
    "PCM_S8": 8,
    "PCM_U8": 8,
    "PCM_16": 16,
    "PCM_24": 24,
    "PCM_32": 32,
    "FLOAT": 32,
    "DOUBLE": 64,
    "ULAW": 8,
    "ALAW": 8,
    "VORBIS": 0,
    "OPUS": 0,
    "MPEG_LAYER_I": 0,
    "MPEG_LAYER_II": 0,
    "MPEG_LAYER_III": 0,
}


@dataclass(frozen=True)
class AudioInfo:
    """What the header says: rate, channels, frames, container and coding.

    ``bit_depth`` is that of the stored samples and 0 for lossy codings (Vorbis, Opus, MP3).
    ``frames`` of an MP3 may be an estimate.
    """

    sample_rate_hz: int
    channels: int
    frames: int
    format: str
    subtype: str
    bit_depth: int

    @property
    def duration_s(self) -> float:
        """Length of the whole file in seconds."""
        return self.frames / self.sample_rate_hz


@dataclass(frozen=True, eq=False)
class Clip:
    """One decoded recording: ``samples`` [S] float32, the mean of all channels.

    ``clipped_rate`` (share of samples, all channels, in runs of at least three equal values at full
    scale) and ``peak`` (largest magnitude of any channel) are measured before the mix-down.
    ``content_sha256`` hashes rate, channels and the decoded interleaved float32 PCM: two files
    with the same sound have the same hash, whatever their container.
    """

    samples: FloatSamples
    sample_rate_hz: int
    info: AudioInfo
    clipped_rate: float
    peak: float
    content_sha256: str

    @property
    def duration_s(self) -> float:
        """Length of the samples in seconds."""
        return len(self.samples) / self.sample_rate_hz


@dataclass(frozen=True)
class DecodeLimits:
    """What a recording may cost.

    Duration and ``max_samples`` (frames x channels) bound the part that is read, not the file.
    """

    min_rate_hz: int = 4_000
    max_rate_hz: int = 384_000
    max_channels: int = 8
    min_duration_s: float = 0.05
    max_duration_s: float = 3_600.0
    max_samples: int = 180_000_000
    max_bytes: int = 16 << 30


DEFAULT_LIMITS = DecodeLimits()


def read_info(source: Source, *, name: str | None = None) -> AudioInfo:
    """Return what the header says, after checking that all the audio it promises is there."""
    with _opened(source, name) as (file, where), _sound(file, where) as sound:
        return _describe(sound, where)


def read_clip(
    source: Source,
    *,
    start_s: float = 0.0,
    end_s: float | None = None,
    limits: DecodeLimits = DEFAULT_LIMITS,
    name: str | None = None,
) -> Clip:
    """Decode a file, or the part from ``start_s`` to ``end_s``, exact to a sample.

    An ``end_s`` past the end of the recording means its end. ``name`` stands for the file in
    errors. Raises ``AudioError``; its codes are listed there.
    """
    with _opened(source, name, limits.max_bytes) as (file, where), _sound(file, where) as sound:
        info = _describe(sound, where)
        first, last = _frame_range(info, start_s, end_s, where)
        _check_limits(info, last - first, limits, where)
        return _decode(sound, info, first, last, where)


@contextmanager
def _opened(
    source: Source, name: str | None, max_bytes: int = DEFAULT_LIMITS.max_bytes
) -> Iterator[tuple[BinaryIO, str]]:
    """Open a regular file (or take an open one), check its size and header, rewind it."""
    if isinstance(source, (str, os.PathLike)):
        where = name or os.fspath(source)
        with _open_regular(Path(source), where) as file:
            _check_file(file, where, max_bytes)
            yield file, where
    else:
        where = name or "audio stream"
        _check_file(source, where, max_bytes)
        yield source, where


def _open_regular(path: Path, where: str) -> BinaryIO:
    """Open without ever waiting on a pipe or a device; the check is on the open file itself."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except (FileNotFoundError, NotADirectoryError):
        what, mend = "there is no such file", "check the path in the metadata"
        raise AudioError("missing", what, where=where, mend=mend) from None
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", None) or "the name is not a path").lower()
        what, mend = f"cannot be opened: {reason}", "check the path and the permissions"
        raise AudioError("unreadable", what, where=where, mend=mend) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        what = "is a folder, pipe or device, not a regular file"
        raise AudioError("unreadable", what, where=where, mend="name an audio file")
    return cast(BinaryIO, os.fdopen(descriptor, "rb", buffering=0))


def _check_file(file: BinaryIO, where: str, max_bytes: int) -> None:
    """Check size and header, and leave the file at its start."""

    def read_at(offset: int, count: int) -> bytes:
        if not 0 <= offset < size:
            return b""
        file.seek(offset)
        return file.read(count)

    try:
        size = file.seek(0, os.SEEK_END)
        if size > max_bytes:
            what = f"the file has {size} bytes, the limit is {max_bytes}"
            raise AudioError("too_large", what, where=where, mend="cut it into shorter files")
        read_header(read_at, size, where=where)
        file.seek(0)
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", None) or "the stream is closed").lower()
        what = f"cannot be read: {reason}"
        raise AudioError("unreadable", what, where=where, mend=COPY_AGAIN) from None


@contextmanager
def _sound(file: BinaryIO, where: str) -> Iterator[sf.SoundFile]:
    """Hand the file to libsndfile; by descriptor where there is one, so that it reads natively."""
    try:
        handle: BinaryIO | int = file.fileno()
    except (OSError, AttributeError):
        handle = file
    if isinstance(handle, int):
        os.lseek(handle, 0, os.SEEK_SET)
    try:
        sound = sf.SoundFile(handle, closefd=False)
    except (sf.SoundFileError, RuntimeError, TypeError, ValueError) as error:
        raise _open_error(error, where) from None
    with sound:
        yield sound


def _open_error(error: Exception, where: str) -> AudioError:
    """Turn libsndfile's refusal into ours, without its text of object addresses."""
    reason = _reason(error)
    if "unimplemented" in reason or "not supported" in reason:
        return AudioError("unsupported", reason, where=where, mend=CONVERT)
    return AudioError("unreadable", f"damaged header: {reason}", where=where, mend=COPY_AGAIN)


def _reason(error: Exception) -> str:
    """Return libsndfile's own words, or a plain sentence where there are none."""
    if isinstance(error, sf.LibsndfileError):
        text = str(error.error_string).strip().rstrip(".")
        return text[:1].lower() + text[1:]
    return "the decoder gave up"


def _describe(sound: sf.SoundFile, where: str) -> AudioInfo:
    """Read the header's fields off an open file and refuse codings that are not ours."""
    subtype = str(sound.subtype)
    if subtype not in _BIT_DEPTHS:
        what = f"{sound.format} with {subtype} coding is not read"
        raise AudioError("unsupported", what, where=where, mend=CONVERT)
    if not 0 <= sound.frames < _UNKNOWN_FRAMES:
        what = "the header does not say how long the recording is"
        raise AudioError("unreadable", what, where=where, mend=CONVERT)
    return AudioInfo(
        sample_rate_hz=int(sound.samplerate),
        channels=int(sound.channels),
        frames=int(sound.frames),
        format="WAV" if sound.format == "WAVEX" else str(sound.format),
        subtype=subtype,
        bit_depth=_BIT_DEPTHS[subtype],
    )


def _frame_range(
    info: AudioInfo, start_s: float, end_s: float | None, where: str
) -> tuple[int, int]:
    """Return the first frame and the one after the last of the part asked for."""
    rate = info.sample_rate_hz
    if rate <= 0:
        raise AudioError("bad_rate", f"the rate is {rate} Hz", where=where, mend=CONVERT)
    if info.frames == 0:
        what = "the file holds no samples"
        raise AudioError("empty", what, where=where, mend=COPY_AGAIN)
    end = info.duration_s if end_s is None else min(end_s, info.duration_s)
    if not 0.0 <= start_s < end:
        asked = f"{start_s:g} s to {'the end' if end_s is None else f'{end_s:g} s'}"
        what = f"the part from {asked} is not inside the recording of {info.duration_s:.3f} s"
        mend = "correct start_s and end_s in the metadata"
        raise AudioError("too_short", what, where=where, mend=mend)
    return round(start_s * rate), min(round(end * rate), info.frames)


def _check_limits(info: AudioInfo, frames: int, limits: DecodeLimits, where: str) -> None:
    """Refuse what the limits do not allow, before any sample is allocated."""
    rate, duration_s = info.sample_rate_hz, frames / info.sample_rate_hz
    values = frames * info.channels
    checks: tuple[tuple[bool, str, str, str], ...] = (
        (
            not limits.min_rate_hz <= rate <= limits.max_rate_hz,
            "bad_rate",
            f"{rate} Hz is outside {limits.min_rate_hz} to {limits.max_rate_hz} Hz",
            "resample it, for example: ffmpeg -i INPUT -ar 48000 output.wav",
        ),
        (
            not 1 <= info.channels <= limits.max_channels,
            "bad_channels",
            f"{info.channels} channels, at most {limits.max_channels} are mixed down",
            "mix it down, for example: ffmpeg -i INPUT -ac 1 output.wav",
        ),
        (
            duration_s < limits.min_duration_s,
            "too_short",
            f"{frames} samples ({duration_s:.4f} s), at least {limits.min_duration_s} s are needed",
            "leave it out or use a longer part",
        ),
        (
            duration_s > limits.max_duration_s,
            "too_long",
            f"{duration_s:.0f} s, at most {limits.max_duration_s:.0f} s are read at once",
            _CUT_PART,
        ),
        (
            values > limits.max_samples,
            "too_large",
            f"{values} samples over all channels, at most {limits.max_samples} are read at once",
            _CUT_PART,
        ),
    )
    for wrong, code, what, mend in checks:
        if wrong:
            raise AudioError(code, what, where=where, mend=mend)


def _decode(sound: sf.SoundFile, info: AudioInfo, first: int, last: int, where: str) -> Clip:
    """Read frames ``first`` to ``last`` in blocks, mixing down and measuring as they come."""
    frames = last - first
    tally = _Tally(info)
    done = 0
    try:
        mono = np.empty(frames, dtype=np.float32)
        if first:
            sound.seek(first)
        block_frames = max(BLOCK_VALUES // info.channels, 1)
        while done < frames:
            block = sound.read(min(block_frames, frames - done), dtype="float32", always_2d=True)
            if len(block) == 0:
                break
            tally.add(block, where)
            mono[done : done + len(block)] = (
                block.mean(axis=1) if info.channels > 1 else block[:, 0]
            )
            done += len(block)
    except MemoryError:
        what = f"no memory for {frames} frames"
        raise AudioError("too_large", what, where=where, mend=_CUT_PART) from None
    except (sf.SoundFileError, RuntimeError, TypeError, ValueError, OSError) as error:
        raise _cut_error(info, done, frames, _reason(error), where) from None
    slack = _MP3_SLACK_FRAMES if info.format == "MP3" else 0
    if done == 0 or done < frames - slack:
        raise _cut_error(info, done, frames, "the stream ends", where)
    return Clip(
        samples=mono[:done],
        sample_rate_hz=info.sample_rate_hz,
        info=info,
        clipped_rate=tally.clipped / (done * info.channels),
        peak=tally.peak,
        content_sha256=tally.sha256.hexdigest(),
    )


def _cut_error(info: AudioInfo, done: int, frames: int, reason: str, where: str) -> AudioError:
    rate = info.sample_rate_hz
    what = f"cut short or damaged: {done / rate:.3f} of {frames / rate:.3f} s decode ({reason})"
    return AudioError("truncated", what, where=where, mend=COPY_AGAIN)


class _Tally:
    """Hash, peak and clipping of interleaved blocks [n, channels], carried across block edges."""

    def __init__(self, info: AudioInfo) -> None:
        self.sha256 = hashlib.sha256(f"{info.sample_rate_hz}:{info.channels}:".encode())
        self.peak = 0.0
        self.clipped = 0
        bits = info.bit_depth if info.subtype.startswith("PCM") else 16
        self._full_scale = np.float32(1.0 - 2.0 ** (1 - min(bits, 24)))
        self._tail = np.empty((0, info.channels), dtype=np.float32)
        self._tail_marks = np.empty((0, info.channels), dtype=bool)

    def add(self, block: FloatSamples, where: str) -> None:
        """Count one more block; refuses samples that are no finite, plausible numbers."""
        low, high = float(block.min()), float(block.max())
        peak = max(-low, high)
        if not peak <= PLAUSIBLE_PEAK:
            kind = f"a sample of {peak:.3g}" if np.isfinite(peak) else "samples that are not finite"
            mend = "export it again with samples from -1 to 1"
            raise AudioError("non_finite", f"holds {kind}", where=where, mend=mend)
        self.peak = max(self.peak, peak)
        self.sha256.update(np.ascontiguousarray(block, dtype="<f4").tobytes())
        if peak >= self._full_scale or len(self._tail):
            self._count_clipped(block)
        if peak < self._full_scale:
            self._tail, self._tail_marks = self._tail[:0], self._tail_marks[:0]

    def _count_clipped(self, block: FloatSamples) -> None:
        joined = np.concatenate([self._tail, block])
        full = np.abs(joined) >= self._full_scale
        same = full[1:] & (joined[1:] == joined[:-1])
        triple = same[1:] & same[:-1]
        marks = np.zeros(joined.shape, dtype=bool)
        for shift in range(CLIPPED_RUN):
            marks[shift : shift + len(triple)] |= triple
        marks[: len(self._tail)] |= self._tail_marks
        self.clipped += int(marks.sum()) - int(self._tail_marks.sum())
        self._tail, self._tail_marks = joined[-2:], marks[-2:]
