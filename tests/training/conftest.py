"""Tones in noise as recordings and as stores, and settings that train on them in a second."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile as sf
import torch
from torch import Tensor

from xmoe.audio.dataset import Dataset, Example
from xmoe.config import ModelConfig, RunConfig, SpectroConfig, TrainConfig
from xmoe.frontend.base import Frontend
from xmoe.frontend.registry import build_frontend
from xmoe.training.loop import Trainer
from xmoe.training.session import TrainingJob
from xmoe.training.store import SpectrogramStore, build_store, open_store

RATE_HZ = 8000
TONES_HZ = {"low": 400.0, "middle": 1200.0, "top": 3000.0}
CLIPS = {"train": 36, "val": 12, "test": 12}
EPOCHS = 4


def make_tone(index: int) -> npt.NDArray[np.float64]:
    """Return 0.3 to 0.7 s of the tone of class ``index % 3`` in noise."""
    rng = np.random.default_rng(index)
    time_s = np.arange(round((0.3 + 0.1 * (index % 5)) * RATE_HZ)) / RATE_HZ
    tone_hz = list(TONES_HZ.values())[index % 3] * rng.uniform(0.95, 1.05)
    return 0.2 * np.sin(2 * np.pi * tone_hz * time_s) + 0.05 * rng.standard_normal(len(time_s))


@pytest.fixture(scope="session")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Return sixty recordings of three tones on disk."""
    root = tmp_path_factory.mktemp("tones")
    splits = [split for split, count in CLIPS.items() for _ in range(count)]
    examples = []
    for index, split in enumerate(splits):
        name = f"{index:03d}.wav"
        sf.write(root / name, make_tone(index), RATE_HZ, subtype="PCM_16")
        examples.append(Example(name, split, (list(TONES_HZ)[index % 3],), row=index))
    return Dataset(root, tuple(examples), tuple(TONES_HZ), "single_label")


@pytest.fixture(scope="session")
def config() -> RunConfig:
    """Return settings of four experts, one of them masked, for segments of 33 frames."""
    return RunConfig(
        classes=tuple(TONES_HZ),
        spectro=SpectroConfig(
            sample_rate_hz=RATE_HZ,
            fmax_hz=4000.0,
            n_fft=256,
            win_length=200,
            hop_length=80,
            num_bins=16,
            segment_s=0.32,
            segment_hop_s=0.16,
        ),
        model=ModelConfig(
            num_classes=3,
            experts=("broadband", "high_band", "low", "transient"),
            masked_experts=("high_band",),
            k_max=2,
            window_frames=2,
            stem_channels=8,
            expert_channels=4,
        ),
        train=TrainConfig(epochs=EPOCHS, batch_size=8, seed=3, device="cpu", ema_decay=0.8),
    )


@pytest.fixture
def change(config: RunConfig) -> Callable[..., RunConfig]:
    """Return the function that changes fields of one part of the settings."""

    def make(part: str, **fields: Any) -> RunConfig:
        changed = getattr(config, part).model_copy(update=fields)
        return config.model_copy(update={part: changed})

    return make


@pytest.fixture(scope="session")
def frontend(config: RunConfig) -> Frontend:
    """Return the front end of the settings."""
    return build_frontend(config.spectro)


@pytest.fixture(scope="session")
def store_paths(
    tones: Dataset, frontend: Frontend, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Return where the stores of the three splits are."""
    root = tmp_path_factory.mktemp("stores")
    for split in CLIPS:
        build_store(root / split, tones, tones.split(split), frontend)
    return {split: root / split for split in CLIPS}


@pytest.fixture(scope="session")
def stores(store_paths: dict[str, Path]) -> dict[str, SpectrogramStore]:
    """Return the stores of the three splits."""
    return {split: open_store(path) for split, path in store_paths.items()}


@pytest.fixture
def make_trainer(
    config: RunConfig, frontend: Frontend, stores: dict[str, SpectrogramStore]
) -> Callable[..., Trainer]:
    """Return the function that makes a fresh trainer on the tones."""

    def make(settings: RunConfig = config, **options: Any) -> Trainer:
        return Trainer(settings, frontend, stores["train"], stores["val"], **options)

    return make


@pytest.fixture
def make_job(config: RunConfig, store_paths: dict[str, Path]) -> Callable[..., TrainingJob]:
    """Return the function that makes a training job on the tones for a run folder."""

    def make(run: Path, settings: RunConfig = config, *, resume: bool = False) -> TrainingJob:
        return TrainingJob(run, settings, store_paths["train"], store_paths["val"], resume)

    return make


@pytest.fixture(scope="session")
def trained(config: RunConfig, frontend: Frontend, stores: dict[str, SpectrogramStore]) -> Trainer:
    """Return a trainer after twelve epochs: its averaged model tells the tones apart."""
    longer = config.model_copy(update={"train": config.train.model_copy(update={"epochs": 12})})
    trainer = Trainer(longer, frontend, stores["train"], stores["val"])
    for _ in range(12):
        trainer.train_epoch()
    return trainer


@pytest.fixture(scope="session")
def assert_same() -> Callable[..., None]:
    """Return the function that asserts that two checkpoints hold the same bits."""

    def check(one: dict[str, dict[str, Tensor]], other: dict[str, dict[str, Tensor]]) -> None:
        assert one.keys() == other.keys()
        for part, tensors in one.items():
            assert tensors.keys() == other[part].keys()
            differ = [name for name in tensors if not torch.equal(tensors[name], other[part][name])]
            assert differ == [], part

    return check
