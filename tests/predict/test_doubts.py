"""What is doubtful about a recording is told with its numbers."""

import numpy as np
import pytest

from xmoe.audio.samples import Decoded
from xmoe.predict.doubts import Levels, find_doubts, judge_levels

RATE_HZ = 16_000
LOUD = np.random.default_rng(0).normal(0, 0.1, RATE_HZ).astype(np.float32)


def doubts(samples, clipped_rate=0.0, fmax_hz=8000, notes=()):
    decoded = Decoded(samples.astype(np.float32), RATE_HZ, clipped_rate, notes)
    return find_doubts(decoded, fmax_hz=fmax_hz)


def test_doubts_name_their_numbers():
    assert "25%" in doubts(LOUD, 0.25)[0]
    assert "16000 Hz" in doubts(LOUD, fmax_hz=12_000)[0]
    assert "32000" in doubts(np.append(LOUD, 32_000))[0]
    assert doubts(LOUD) == []


@pytest.mark.parametrize("samples", [np.zeros(4000), np.full(4000, 0.5), LOUD * 1e-5])
def test_silence_is_told_with_or_without_an_offset(samples):
    (doubt,) = doubts(samples)
    assert doubt.startswith("silent")


def test_what_is_known_of_the_file_comes_first():
    assert doubts(np.zeros(4000), notes=("joined: 2 streams",))[0] == "joined: 2 streams"


def test_levels_are_judged_without_samples():
    assert judge_levels(Levels(-0.5, 0.5, 0.02), RATE_HZ, fmax_hz=8000) == [
        "clipped: 2% of the samples are at full scale"
    ]
    assert judge_levels(Levels(0.3, 0.3, 0.0), RATE_HZ, fmax_hz=8000)[0].startswith("silent")
