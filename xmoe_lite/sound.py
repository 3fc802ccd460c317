"""A file -> samples [S] of one channel -> segments, and samples at another rate."""

from __future__ import annotations

import math
import wave
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Span = tuple[float, float]

# Windowed-sinc kernels as torchaudio makes them, and how large their bank may be.
_WIDTH, _ROLLOFF, _BETA = 32, 0.96, 12.0
_MOST_VALUES = 4_000_000
# So many samples come out of one product at least.
_PIECE = 32


class LiteError(ValueError):
    """A recording or a folder that cannot be used; says which, why, and what to do."""


def read_sound(path: str | Path) -> tuple[Floats, int]:
    """The samples [S] of a file, channels averaged, and its rate in Hz.

    With the package soundfile whatever that reads, else WAV in PCM.
    """
    try:
        import soundfile
    except ImportError:
        return _read_wav(path)
    try:
        samples, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError) as error:
        raise LiteError(f"{path}: not readable as sound: {error}") from error
    return _mix(samples), rate_hz


def _read_wav(path: str | Path) -> tuple[Floats, int]:
    try:
        with wave.open(str(path), "rb") as file:
            rate_hz, channels, width = file.getframerate(), file.getnchannels(), file.getsampwidth()
            raw = np.frombuffer(file.readframes(file.getnframes()), np.uint8)
    except (wave.Error, EOFError, OSError) as error:
        mend = "pip install soundfile, or convert it to WAV in PCM"
        raise LiteError(f"{path}: not readable as WAV in PCM: {error}: {mend}") from error
    raw = raw[: len(raw) // (width * channels) * width * channels].reshape(-1, width)
    if width == 1:  # the only width without sign
        raw = raw ^ np.uint8(128)
    whole = np.zeros((len(raw), 4), np.uint8)
    whole[:, 4 - width :] = raw
    samples = (whole.view("<i4")[:, 0] / 2.0**31).astype(np.float32)
    return _mix(samples.reshape(-1, channels)), rate_hz


def _mix(samples: Floats) -> Floats:
    mono: Floats = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1)
    return np.ascontiguousarray(mono)


def cut_segments(samples: Floats, rate_hz: int, segment_s: float, hop_s: float) -> list[Floats]:
    """The segments of a recording: every hop, the last one flush with its end."""
    length, hop = (max(1, round(step_s * rate_hz)) for step_s in (segment_s, hop_s))
    last = max(0, len(samples) - length)
    starts = [*range(0, last + 1, hop)]
    if starts[-1] != last:
        starts.append(last)
    return [samples[start : start + length] for start in starts]


def in_16_bits(samples: Floats) -> Floats:
    """Samples in 32 767 levels of their own peak, as experts are sent them."""
    scale = np.float32(max(float(np.abs(samples).max()), 1e-8) / 32767)
    levels: Floats = np.rint(samples / scale) * scale
    return levels


def cut_spans(samples: Floats, rate_hz: int, spans: list[Span]) -> list[Floats]:
    """The samples of each span (start, end in s), at least one each."""
    pieces = []
    for start_s, end_s in spans:
        first = min(max(round(start_s * rate_hz), 0), len(samples) - 1)
        last = min(round(end_s * rate_hz), len(samples))
        pieces.append(samples[first : max(last, first + 1)])
    return pieces


def resample(samples: Floats, from_hz: int, to_hz: int) -> Floats:
    """``ceil(S * to_hz / from_hz)`` samples; LiteError for rates without a common step."""
    if from_hz == to_hz:
        return samples
    common = math.gcd(from_hz, to_hz)
    up, down = to_hz // common, from_hz // common
    half = _reach(up, down)
    if up * (down + 2 * half) > _MOST_VALUES:
        what = f"{from_hz} Hz cannot be brought to {to_hz} Hz here"
        raise LiteError(f"{what}: resample the recording to {to_hz} Hz")
    table = _kernels(up, down)
    span, made = table.shape
    count, hop = -(-len(samples) * up // down), made // up * down
    last = (-(-count // made) - 1) * hop
    padded = np.pad(samples, (half, last + span - half - len(samples)))
    pieces = np.lib.stride_tricks.sliding_window_view(padded, span)[::hop]
    resampled: Floats = (pieces @ table).ravel()[:count]
    return resampled


def _reach(up: int, down: int) -> int:
    return math.ceil(_WIDTH * down / (min(up, down) * _ROLLOFF))


@lru_cache(maxsize=16)
def _kernels(up: int, down: int) -> Floats:
    """[span, steps * up]: what each sample of a piece adds to those that come out of it."""
    half, band = _reach(up, down), min(up, down) * _ROLLOFF
    place = np.arange(-half, half + down) / down
    # torchaudio has these in 32 bits, and its kernels are those that the experts were fitted with.
    start = np.arange(0, -up, -1, dtype=np.float32)[:, None] / np.float32(up)
    time = ((start + place) * band).clip(-_WIDTH, _WIDTH)
    window = np.i0(_BETA * np.sqrt(1.0 - (time / _WIDTH) ** 2)) / np.i0(_BETA)
    taps = (np.sinc(time) * window * (band / down)).T.astype(np.float32)
    steps = max(_PIECE // up, 1)
    table = np.zeros(((steps - 1) * down + len(taps), steps, up), np.float32)
    for step in range(steps):
        table[step * down : step * down + len(taps), step] = taps
    return table.reshape(len(table), -1)
