"""A set of tones on disk, and a mixture's observation that is made up so that answers are known."""

from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch

from tests.fixtures.mixtures import cnn_specs
from xmoe.ablation.evidence import KINDS
from xmoe.ablation.observe import Observed
from xmoe.base.config import ModelConfig, RunConfig, SpectroConfig, TrainConfig

RATE_HZ = 8000
TONES_HZ = {"low": 500.0, "top": 2000.0}
SPLITS = ("train", "train", "train", "val", "test")
CLIPS = 240
EXPERTS = ("broadband", "low", "high", "transient")


@pytest.fixture(scope="session")
def tones(tmp_path_factory) -> Path:
    """Return sixty recordings of 0.3 s of two tones in noise, with a manifest."""
    root = tmp_path_factory.mktemp("tones")
    rows = ["filepath,split,label"]
    for index in range(60):
        rng = np.random.default_rng(index)
        name = list(TONES_HZ)[index // len(SPLITS) % 2]
        time_s = np.arange(round(0.3 * RATE_HZ)) / RATE_HZ
        tone_hz = TONES_HZ[name] * rng.uniform(0.95, 1.05)
        samples = 0.2 * np.sin(2 * np.pi * tone_hz * time_s)
        samples += 0.2 * rng.standard_normal(len(time_s))
        sf.write(root / f"{index:02d}.wav", samples, RATE_HZ, subtype="PCM_16")
        rows.append(f"{index:02d}.wav,{SPLITS[index % len(SPLITS)]},{name}")
    (root / "metadata.csv").write_text("\n".join(rows) + "\n")
    return root


@pytest.fixture
def config() -> RunConfig:
    """Return settings of four experts, one of them masked."""
    return RunConfig(
        classes=("a", "b"),
        spectro=SpectroConfig(num_bins=16),
        model=ModelConfig(
            num_classes=2,
            experts=cnn_specs(*EXPERTS),
            masked_experts=("high",),
            k_max=2,
            window_frames=2,
        ),
        train=TrainConfig(batch_size=32, seed=1, device="cpu"),
    )


def make_observed(clips: int = CLIPS, seed: int = 0, margin: float = 4.0) -> Observed:
    """Return clips of which only the saliency says which one expert is right.

    The stem is wrong for every second clip; expert 0 is right where the saliency is positive,
    expert 1 where it is not, the others say nothing.
    """
    rng = torch.Generator().manual_seed(seed)
    truth = torch.randint(2, (clips,), generator=rng)
    hint = torch.randn(clips, generator=rng)
    right = margin * (2 * torch.nn.functional.one_hot(truth, 2).float() - 1)
    trusted = (torch.arange(clips) % 2 == 0).float()
    stem = 0.3 * right * (2 * trusted - 1).unsqueeze(1)
    experts = torch.zeros(4, clips, 2)
    experts[0] = torch.where((hint > 0).unsqueeze(1), right, -right)
    experts[1] = -experts[0]
    evidence = {kind: torch.randn(clips, 3, generator=rng) for kind in KINDS}
    evidence["saliency"][:, 0] = hint
    evidence["entropy"] = trusted.unsqueeze(1)
    evidence["nothing"] = torch.zeros(clips, 1)
    return Observed(
        evidence=evidence,
        stem=stem,
        full=experts,
        part=experts,
        owner=torch.arange(clips),
        targets=torch.nn.functional.one_hot(truth, 2).float(),
    )


@pytest.fixture
def observed() -> Observed:
    """Return the made-up observation of training crops."""
    return make_observed(1200)


@pytest.fixture
def unseen() -> Observed:
    """Return the same of other clips."""
    return make_observed(400, seed=9)
