"""A tiny run with random weights, to be kept and fetched."""

import pytest
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
