"""An audio file, or part of one -> ``Clip``: mono float32 samples and what was measured.

Files are untrusted. The header is checked against the file first (``xmoe.audio.containers``), the
limits before anything is allocated, and samples are read in blocks and counted: a tiny FLAC that
claims 2^36 samples costs nothing. Every problem becomes an ``AudioError`` with a code, never
another exception and never a silently shortened clip.

Read: WAV, RF64 and W64 (PCM 8/16/24/32, float, double, A-law, mu-law), AIFF, AU, FLAC, OGG (Vorbis,
Opus) and MP3. Everything else is refused by name.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import soundfile as sf

from xmoe.audio.containers import CONVERT, COPY_AGAIN
from xmoe.audio.opening import MAX_BYTES, OpenSound, Source, decoder_reason, open_sound
from xmoe.audio.reading import AS_IT_IS, Block, Reading, mix_down, pick_channel
from xmoe.audio.samples import HIGHEST_RATE_HZ, LOWEST_RATE_HZ, MOST_CHANNELS, SHORTEST_S, Decoded
from xmoe.audio.tally import Tally
from xmoe.base.errors import AudioError

BLOCK_VALUES = 1 << 18
_MP3_SLACK_FRAMES = 4 * 1152  # an MP3's length may be off by a few packets
_UNKNOWN_FRAMES = 1 << 48  # libsndfile gives about 2^63 for a length it does not know
_CUT_PART = "give start_s and end_s to use a part of it, or cut it into shorter files"

_BIT_DEPTHS = {
    **{"PCM_S8": 8, "PCM_U8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32},
    **{"FLOAT": 32, "DOUBLE": 64, "ULAW": 8, "ALAW": 8},
    **dict.fromkeys(("VORBIS", "OPUS", "MPEG_LAYER_I", "MPEG_LAYER_II", "MPEG_LAYER_III"), 0),
}
_COMPANDED_PEAKS = {"ULAW": 32_124 / 32_768, "ALAW": 32_256 / 32_768}


@dataclass(frozen=True)
class AudioInfo:
    """What the header says: rate, channels, frames, container and coding.

    The rate is that of the original sound if the file is time-expanded (see ``Reading``).
    ``bit_depth`` is that of the stored samples and 0 for lossy codings (Vorbis, Opus, MP3).
    ``frames`` of an MP3 may be an estimate; ``streams`` counts the chained streams of an Ogg file.
    """

    sample_rate_hz: int
    channels: int
    frames: int
    format: str
    subtype: str
    bit_depth: int
    streams: int = 1

    @property
    def duration_s(self) -> float:
        return self.frames / self.sample_rate_hz

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the answers should know about the file, in plain words."""
        joined = f"joined: {self.streams} streams one after another are read as one recording"
        return (joined,) if self.streams > 1 else ()


@dataclass(frozen=True, eq=False)
class Clip:
    """One decoded recording: ``samples`` [S] float32, the mean of all channels.

    ``clipped_rate`` (share of samples, all channels, in runs of at least three equal values at full
    scale) and ``peak`` (largest magnitude of any channel) are measured before the mix-down.
    ``content_sha256`` hashes rate, channels and the decoded interleaved float32 PCM: two files
    with the same sound have the same hash, whatever their container.
    """

    samples: npt.NDArray[np.float32]
    sample_rate_hz: int
    info: AudioInfo
    clipped_rate: float
    peak: float
    content_sha256: str

    @property
    def duration_s(self) -> float:
        return len(self.samples) / self.sample_rate_hz

    @property
    def decoded(self) -> Decoded:
        return Decoded(self.samples, self.sample_rate_hz, self.clipped_rate, self.info.notes)


@dataclass(frozen=True)
class DecodeLimits:
    """The most that a recording may cost.

    Duration and ``max_samples`` (frames x channels) bound the part that is read, not the file.
    """

    min_rate_hz: int = LOWEST_RATE_HZ
    max_rate_hz: int = HIGHEST_RATE_HZ
    max_channels: int = MOST_CHANNELS
    min_duration_s: float = SHORTEST_S
    max_duration_s: float = 3_600.0
    max_samples: int = 180_000_000
    max_bytes: int = MAX_BYTES

    def slowed(self, reading: Reading) -> DecodeLimits:
        """The limits for a time-expanded file: they bound the rate in its header."""
        return replace(self, max_rate_hz=round(self.max_rate_hz * reading.time_expansion))


DEFAULT_LIMITS = DecodeLimits()
STREAM_LIMITS = replace(DEFAULT_LIMITS, max_duration_s=float("inf"), max_samples=1 << 62)


def read_info(source: Source) -> AudioInfo:
    """Read the header, after checking that all the audio it promises is there."""
    with open_sound(source) as (sound, where):
        return _describe(sound, where)


def read_clip(
    source: Source,
    *,
    start_s: float = 0.0,
    end_s: float | None = None,
    limits: DecodeLimits = DEFAULT_LIMITS,
    reading: Reading = AS_IT_IS,
    name: str | None = None,
) -> Clip:
    """Decode a file, or the part from ``start_s`` to ``end_s``, exact to a sample.

    An ``end_s`` beyond the end of the recording means its end. ``name`` replaces the file's in
    errors. Raises ``AudioError``; its codes are listed there.
    """
    with open_sound(source, name=name, max_bytes=limits.max_bytes) as (sound, where):
        info = _describe(sound, where, reading)
        limits = limits.slowed(reading)
        first, last = _frame_range(info, start_s, end_s, where)
        _check_limits(info, last - first, limits, where)
        clip = _decode(sound, info, (first, last), reading.channel, where)
        _check_limits(info, len(clip.samples), limits, where)  # an MP3 may hold less than it says
        return clip


def _describe(sound: OpenSound, where: str, reading: Reading = AS_IT_IS) -> AudioInfo:
    """Read the header's fields off an open file and refuse codings that are not ours."""
    if reading.channel is not None and not 1 <= reading.channel <= sound.channels:
        what = f"channel {reading.channel} was asked for, there are {sound.channels}"
        mend = "name one from 1 up, or leave --channel out"
        raise AudioError("bad_channels", what, where=where, mend=mend)
    subtype = str(sound.subtype)
    if subtype not in _BIT_DEPTHS:
        what = f"{sound.format} with {subtype} coding is not read"
        raise AudioError("unsupported", what, where=where, mend=CONVERT)
    if sound.samplerate <= 0:
        what = f"the header claims a rate of {sound.samplerate} Hz"
        raise AudioError("bad_rate", what, where=where, mend=CONVERT)
    if not 0 <= sound.frames < _UNKNOWN_FRAMES:
        what = "the header does not say how long the recording is"
        raise AudioError("unreadable", what, where=where, mend=CONVERT)
    return AudioInfo(
        sample_rate_hz=round(sound.samplerate * reading.time_expansion),
        channels=int(sound.channels),
        frames=int(sound.frames),
        format="WAV" if sound.format == "WAVEX" else str(sound.format),
        subtype=subtype,
        bit_depth=_BIT_DEPTHS[subtype],
        streams=getattr(sound, "streams", 1),
    )


def _frame_range(
    info: AudioInfo, start_s: float, end_s: float | None, where: str
) -> tuple[int, int]:
    """The first frame of the requested part and the one after its last."""
    rate = info.sample_rate_hz
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
    mend = _CUT_PART
    if not limits.min_rate_hz <= rate <= limits.max_rate_hz:
        code = "bad_rate"
        what = f"{rate} Hz is outside {limits.min_rate_hz} to {limits.max_rate_hz} Hz"
        mend = "resample it, for example: ffmpeg -i INPUT -ar 48000 output.wav"
    elif not 1 <= info.channels <= limits.max_channels:
        code = "bad_channels"
        what = f"{info.channels} channels, at most {limits.max_channels} are mixed down"
        mend = "mix it down, for example: ffmpeg -i INPUT -ac 1 output.wav"
    elif duration_s < limits.min_duration_s:
        code = "too_short"
        least = f"at least {limits.min_duration_s} s are needed"
        what = f"{frames} samples ({duration_s:.4f} s), {least}"
        mend = "leave it out or use a longer part"
    elif duration_s > limits.max_duration_s:
        code = "too_long"
        what = f"{duration_s:.0f} s, at most {limits.max_duration_s:.0f} s are read at once"
    elif values > limits.max_samples:
        code = "too_large"
        what = f"{values} samples over all channels, at most {limits.max_samples} are read at once"
    else:
        return
    raise AudioError(code, what, where=where, mend=mend)


def _decode(
    sound: OpenSound, info: AudioInfo, span: tuple[int, int], channel: int | None, where: str
) -> Clip:
    """Read a span of frames in blocks, mixing down and measuring on the way."""
    frames, done = span[1] - span[0], 0
    channels = info.channels if channel is None else 1
    tally = Tally(info.sample_rate_hz, channels, full_scale=_full_scale(info))
    size = max(BLOCK_VALUES // info.channels, 1)
    try:
        mono = np.empty(frames, dtype=np.float32)
        for whole in _read_blocks(sound, info, span, size, where):
            block = pick_channel(whole, channel)
            tally.add(block, where=where)
            mono[done : done + len(block)] = mix_down(block)
            done += len(block)
    except MemoryError:
        what = f"no memory for {frames} frames"
        raise AudioError("too_large", what, where=where, mend=_CUT_PART) from None
    return Clip(
        samples=mono[:done],
        sample_rate_hz=info.sample_rate_hz,
        info=info,
        clipped_rate=tally.clipped_rate,
        peak=tally.peak,
        content_sha256=tally.hexdigest(),
    )


@contextmanager
def open_blocks(
    source: Source, *, block_frames: int, reading: Reading = AS_IT_IS
) -> Iterator[tuple[AudioInfo, Iterator[Block], Tally]]:
    """Open a recording of any length: its header and its samples, mixed down, block by block.

    Blocks are [``block_frames``], the last one shorter. Only one is held; the tally counts those
    read so far. Raises ``AudioError`` as ``read_clip`` does, also while blocks are read.
    """
    with open_sound(source, max_bytes=STREAM_LIMITS.max_bytes) as (sound, where):
        info = _describe(sound, where, reading)
        span = _frame_range(info, 0.0, None, where)
        _check_limits(info, span[1], STREAM_LIMITS.slowed(reading), where)
        channels = info.channels if reading.channel is None else 1
        tally = Tally(info.sample_rate_hz, channels, full_scale=_full_scale(info))

        def blocks() -> Iterator[Block]:
            for whole in _read_blocks(sound, info, span, block_frames, where):
                block = pick_channel(whole, reading.channel)
                tally.add(block, where=where)
                yield mix_down(block)

        yield info, blocks(), tally


def _read_blocks(
    sound: OpenSound, info: AudioInfo, span: tuple[int, int], size: int, where: str
) -> Iterator[Block]:
    """Yield a span of frames as blocks [n, channels]; refuse a stream that ends before it."""
    first, frames, done = span[0], span[1] - span[0], 0
    try:
        if first:
            sound.seek(first)
        while done < frames:
            block = sound.read(min(size, frames - done), dtype="float32", always_2d=True)
            if len(block) == 0:
                break
            done += len(block)
            yield block
    except (sf.SoundFileError, RuntimeError, TypeError, ValueError, OSError) as error:
        raise _cut_error(info, done, frames, decoder_reason(error), where) from None
    slack = _MP3_SLACK_FRAMES if info.format == "MP3" else 0
    if done == 0 or done < frames - slack:
        raise _cut_error(info, done, frames, "the stream ends", where)


def _cut_error(info: AudioInfo, done: int, frames: int, reason: str, where: str) -> AudioError:
    rate = info.sample_rate_hz
    what = f"cut short or damaged: {done / rate:.3f} of {frames / rate:.3f} s decode ({reason})"
    return AudioError("truncated", what, where=where, mend=COPY_AGAIN)


def _full_scale(info: AudioInfo) -> float:
    """The largest positive value the coding can hold (that of 16 bit for float)."""
    if info.subtype in _COMPANDED_PEAKS:
        return _COMPANDED_PEAKS[info.subtype]
    bits = min(info.bit_depth, 24) if info.subtype.startswith("PCM") else 16
    return 1.0 - 2.0 ** (1 - bits)
