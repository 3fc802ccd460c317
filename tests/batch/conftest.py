"""A tiny run with random weights, and a folder of short clips of which some are bad."""

import numpy as np
import pytest
import soundfile as sf
import torch

from xmoe.artifacts import RunFolder
from xmoe.config import ModelConfig, RoutingConfig, RunConfig, SpectroConfig, TrainConfig
from xmoe.model.moe import MoE
from xmoe.training.loop import split_weights


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory):
    config = RunConfig(
        classes=("click", "tone"),
        spectro=SpectroConfig(
            sample_rate_hz=8000,
            fmax_hz=4000.0,
            n_fft=256,
            win_length=200,
            hop_length=80,
            num_bins=16,
            segment_s=0.4,
            segment_hop_s=0.2,
        ),
        model=ModelConfig(
            experts=("broadband", "low", "transient"),
            k_max=2,
            window_frames=2,
            stem_channels=8,
            expert_channels=4,
        ),
        train=TrainConfig(),
        routing=RoutingConfig(k_price=-1.0, window_fraction=0.5),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = MoE(config.model, num_bins=16)
        for part in model.modules():
            if isinstance(part, torch.nn.Linear):
                torch.nn.init.normal_(part.weight, std=0.3)
    folder = RunFolder(tmp_path_factory.mktemp("run") / "tiny")
    folder.write_record("run_config.json", config)
    folder.save_checkpoint("best", split_weights(model), {}, which=("best", "last"))
    return folder.path


def write_clips(folder, count):
    """Write tones in noise of mixed lengths, and among them one bad file."""
    for index in range(count):
        rng = np.random.default_rng(index)
        length = 2000 + 371 * (index % 7)
        tone = np.sin(2 * np.pi * (300 + 100 * index) * np.arange(length) / 8000)
        path = folder / f"{index % 3}" / f"{index:03d}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        samples = 0.2 * tone + 0.05 * rng.standard_normal(length)
        sf.write(path, samples, 8000, subtype="PCM_16")
    (folder / "1" / "bad.wav").write_bytes(b"nonsense" * 20)
    (folder / "notes.txt").write_text("not a recording")
    return folder


@pytest.fixture(scope="session")
def clips(tmp_path_factory):
    """Twenty clips and a bad one, in three folders, and a text."""
    return write_clips(tmp_path_factory.mktemp("clips"), 20)
