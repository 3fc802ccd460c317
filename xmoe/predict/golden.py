"""A few synthetic sounds and a run's answers to them when it was written: are they the same now?

A truncated copy, another version of a library or a processor that computes otherwise shows in these
answers before anybody is served by them. No recording is kept: the sounds are arithmetic on the
run's own rate and band, the same on every machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from xmoe.base.config import Frozen, SpectroConfig
from xmoe.predict.predictor import Predictor
from xmoe.run.folder import RunFile, RunFolder

NUM_SOUNDS = 4
LENGTH_SEGMENTS = 1.25  # so that there are two segments
LEVEL, NOISE = 0.2, 0.05
_MULTIPLIER, _MASK = np.uint64(0x45D9F3B), np.uint64(0xFFFFFFFF)  # an integer hash

Samples = npt.NDArray[np.float32]
Probabilities = Mapping[str, float]


class Golden(Frozen):
    """Probabilities by class for each synthetic sound, and the weights that gave them."""

    weights_sha256: str
    answers: tuple[dict[str, float], ...]


def make_sounds(spectro: SpectroConfig) -> list[Samples]:
    """Sounds [S] at the run's rate: chirps over parts of its band, in noise."""
    size = round(LENGTH_SEGMENTS * spectro.segment_s * spectro.sample_rate_hz)
    time_s = np.arange(size) / spectro.sample_rate_hz
    low, width = spectro.fmin_hz, spectro.fmax_hz - spectro.fmin_hz
    sounds = []
    for index in range(NUM_SOUNDS):
        start_hz = low + width * (index + 0.5) / (2 * NUM_SOUNDS)
        rise_hz_per_s = width / (4 * time_s[-1])
        phase = 2 * np.pi * (start_hz + rise_hz_per_s * time_s / 2) * time_s
        sounds.append((LEVEL * np.sin(phase) + NOISE * _noise(size, index)).astype(np.float32))
    return sounds


def _noise(size: int, seed: int) -> npt.NDArray[np.float64]:
    """Numbers from -1 to 1, a hash of integers: no library's generator decides them."""
    value = np.arange(size, dtype=np.uint64) + np.uint64(seed * size + 1)
    for _ in range(2):
        value = ((value >> np.uint64(16)) ^ value) * _MULTIPLIER & _MASK
    value = (value >> np.uint64(16)) ^ value
    return np.asarray(value / float(_MASK) * 2.0 - 1.0)


def answer_sounds(predictor: Predictor) -> list[dict[str, float]]:
    rate = predictor.config.spectro.sample_rate_hz
    return [
        predictor.predict(sound, rate).probabilities
        for sound in make_sounds(predictor.config.spectro)
    ]


def write_golden(folder: RunFolder) -> None:
    answers = tuple(answer_sounds(Predictor.load(folder.path)))
    record = Golden(weights_sha256=folder.fingerprint(), answers=answers)
    folder.write_record(RunFile.GOLDEN, record)


def read_golden(folder: RunFolder) -> Golden | None:
    """The golden answers of a run, None where it was written before they were kept."""
    if not folder.file(RunFile.GOLDEN).is_file():
        return None
    return folder.read_record(RunFile.GOLDEN, Golden)


def largest_difference(said: Sequence[Probabilities], wanted: Sequence[Probabilities]) -> float:
    """Largest difference of probabilities; infinite for other classes or counts."""
    if len(said) != len(wanted) or any(set(a) != set(b) for a, b in zip(said, wanted, strict=True)):
        return float("inf")
    pairs = zip(said, wanted, strict=True)
    return max((abs(a[name] - b[name]) for a, b in pairs for name in a), default=0.0)
