"""A mixture with random weights, and a small data set of tones."""

import numpy as np
import pytest
import soundfile as sf
import torch

from tests.fixtures.mixtures import cnn_specs
from xmoe.audio.dataset import load_dataset
from xmoe.base.config import ModelConfig, RunConfig, SpectroConfig, TrainConfig
from xmoe.mixture.moe import MoE
from xmoe.predict.predictor import Predictor

RATE_HZ = 8000


@pytest.fixture(scope="session")
def predictor():
    """Return a predictor that nothing was fitted to, and whose answers differ between clips."""
    spectro = SpectroConfig(
        sample_rate_hz=RATE_HZ, fmax_hz=4000.0, n_fft=256, win_length=200, hop_length=80,
        num_bins=16, segment_s=0.4, segment_hop_s=0.2,
    )  # fmt: skip
    model = ModelConfig(
        num_classes=2, experts=cnn_specs("low"), k_max=1, stem_channels=8, expert_channels=4
    )
    config = RunConfig(classes=("a", "b"), spectro=spectro, model=model, train=TrainConfig())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = MoE(model, SpectroConfig(num_bins=16))
        for part in network.modules():
            if isinstance(part, torch.nn.Linear):
                torch.nn.init.normal_(part.weight, std=0.5)
    return Predictor(config, network)


@pytest.fixture(scope="session")
def dataset(tmp_path_factory):
    """Return 24 clips of half a second in test, of two classes, and one in train and in val."""
    root = tmp_path_factory.mktemp("tones")
    rows = ["filepath,split,label"]
    rng = np.random.default_rng(0)
    for index in range(26):
        time_s = np.arange(RATE_HZ // 2) / RATE_HZ
        tone = 0.3 * np.sin(2 * np.pi * (300 + 2000 * (index % 2)) * time_s)
        samples = (tone + 0.02 * rng.standard_normal(len(time_s))).astype(np.float32)
        sf.write(root / f"{index:02d}.wav", samples, RATE_HZ)
        split = {24: "train", 25: "val"}.get(index, "test")
        rows.append(f"{index:02d}.wav,{split},{'ab'[index % 2]}")
    (root / "metadata.csv").write_text("\n".join(rows) + "\n")
    return load_dataset(root)
