"""A mixture with random weights that says different things of clips, and recordings to hear."""

from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from tests.fixtures.runs import RATE_HZ, tiny_config, tiny_model
from xmoe.predict.predictor import Predictor

CLASSES = ("click", "tone", "background")


@pytest.fixture(scope="session")
def predictor():
    """Return a predictor that nothing was fitted to."""
    config = tiny_config(CLASSES, experts=("broadband", "low"), masked_experts=())
    return Predictor(config, tiny_model(config, std=0.5))


def sound(seconds: float, rate_hz: int = RATE_HZ, seed: int = 0) -> np.ndarray:
    """Return noise in which tones of changing pitch and level come and go."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(round(seconds * rate_hz)) / rate_hz
    pitch_hz = 300 + 1500 * np.sin(2 * np.pi * 0.37 * time_s) ** 2
    tone = np.sin(2 * np.pi * np.cumsum(pitch_hz) / rate_hz) * (np.sin(2.1 * time_s) > 0)
    return (0.2 * tone + 0.05 * rng.standard_normal(len(time_s))).astype(np.float32)


@pytest.fixture
def write_sound(tmp_path):
    """Return a function that writes such a recording and returns its path and its samples."""

    def write(seconds: float, rate_hz: int = RATE_HZ, *, name: str = "long.wav"):
        path = Path(tmp_path / name)
        sf.write(path, sound(seconds, rate_hz), rate_hz, subtype="FLOAT")
        return path, sound(seconds, rate_hz)

    return write
