"""Recordings with known content, written as real files: whole, cut, and with lying headers."""

import io
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from xmoe.audio.dataset import Dataset, Example

WriteAudio = Callable[..., Path]


def tone(
    *, frequency_hz: float = 440.0, duration_s: float = 0.5, sample_rate_hz: int = 16_000
) -> np.ndarray:
    times = np.arange(round(duration_s * sample_rate_hz)) / sample_rate_hz
    return (0.5 * np.sin(2 * np.pi * frequency_hz * times)).astype(np.float32)


def encode(samples: np.ndarray, rate: int = 16_000, kind: str = "WAV/PCM_16") -> bytes:
    """Return the bytes of a file; ``kind`` is container/coding in libsndfile's words."""
    container, subtype = kind.split("/")
    buffer = io.BytesIO()
    sf.write(buffer, samples, rate, format=container, subtype=subtype)
    return buffer.getvalue()


def wav_bytes(
    data: bytes = bytes(32_000),
    *,
    tag: int = 1,
    channels: int = 1,
    rate: int = 16_000,
    bits: int = 16,
    declared: int | None = None,
) -> bytes:
    """Return a WAV whose every field is chosen, whether it makes sense or not."""
    align = channels * bits // 8
    fmt = struct.pack("<HHIIHH", tag, channels, rate, (rate * align) % 2**32, align % 2**16, bits)
    length = len(data) if declared is None else declared
    body = b"WAVEfmt " + struct.pack("<I", 16) + fmt + b"data" + struct.pack("<I", length) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


def lying_flac(frames: int) -> bytes:
    """Return a small FLAC file whose header claims ``frames`` samples (36 bits)."""
    raw = bytearray(encode(tone(), kind="FLAC/PCM_16"))
    raw[21] = (raw[21] & 0xF0) | (frames >> 32)
    raw[22:26] = struct.pack(">I", frames & 0xFFFFFFFF)
    return bytes(raw)


@pytest.fixture
def write_audio(tmp_path: Path) -> WriteAudio:
    """Return a function that writes samples (a tone by default) under the test's folder."""

    def write(
        name: str = "clip.wav",
        samples: np.ndarray | None = None,
        rate: int = 16_000,
        kind: str = "WAV/PCM_16",
    ) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = tone(sample_rate_hz=rate) if samples is None else samples
        path.write_bytes(encode(data, rate, kind))
        return path

    return write


@pytest.fixture
def make_dataset(tmp_path: Path) -> Callable[..., Dataset]:
    """Return a function that makes a data set of (path, split, label, extra fields)."""

    def make(*rows: tuple, task: str = "single_label") -> Dataset:
        examples = tuple(
            Example(path, split, tuple(label.split(";")), row=i, **(rest[0] if rest else {}))
            for i, (path, split, label, *rest) in enumerate(rows, 2)
        )
        classes = tuple(sorted({name for example in examples for name in example.labels}))
        return Dataset(tmp_path, examples, classes, task)

    return make
