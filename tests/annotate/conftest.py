"""A mixture with random weights that says different things of clips, and recordings to hear."""

from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch

from tests.fixtures.mixtures import cnn_specs
from xmoe.base.config import ModelConfig, RoutingConfig, RunConfig, SpectroConfig, TrainConfig
from xmoe.mixture.moe import MoE
from xmoe.predict.predictor import Predictor

RATE_HZ = 8000
CLASSES = ("click", "tone", "background")


def make_config(*, task="single_label"):
    return RunConfig(
        classes=CLASSES,
        spectro=SpectroConfig(
            sample_rate_hz=RATE_HZ,
            fmax_hz=4000.0,
            n_fft=256,
            win_length=200,
            hop_length=80,
            num_bins=16,
            segment_s=0.4,
            segment_hop_s=0.2,
        ),
        model=ModelConfig(
            task=task,
            num_classes=3,
            experts=cnn_specs("broadband", "low"),
            k_max=2,
            window_frames=2,
            stem_channels=8,
            expert_channels=4,
        ),
        train=TrainConfig(),
        routing=RoutingConfig(k_price=-1.0, window_fraction=0.5),
    )


@pytest.fixture(scope="session")
def predictor():
    """Return a predictor that nothing was fitted to."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = MoE(make_config().model, make_config().spectro)
        for part in model.modules():
            if isinstance(part, torch.nn.Linear):
                torch.nn.init.normal_(part.weight, std=0.5)
    return Predictor(make_config(), model)


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
