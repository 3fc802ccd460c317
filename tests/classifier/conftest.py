"""A folder of tones in noise, and one classifier fitted to it that every test may look at."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile as sf

from xmoe.classifier import MoEAudioClassifier
from xmoe.policy.policy import PolicyOverrides

RATE_HZ = 8000
TONES_HZ = {"low": 500.0, "top": 2000.0}
SPLITS = ("train", "train", "train", "val", "test")
CLIPS = 60


def make_samples(index: int, *names: str) -> npt.NDArray[np.float32]:
    """Return 0.3 to 0.45 s of the named tones in noise."""
    rng = np.random.default_rng(index)
    time_s = np.arange(round((0.3 + 0.05 * (index % 4)) * RATE_HZ)) / RATE_HZ
    samples = 0.05 * rng.standard_normal(len(time_s))
    for name in names:
        samples += 0.2 * np.sin(2 * np.pi * TONES_HZ[name] * rng.uniform(0.95, 1.05) * time_s)
    return samples.astype(np.float32)


@pytest.fixture(scope="session")
def tone() -> Callable[..., npt.NDArray[np.float32]]:
    """Return the function that makes the samples of a clip."""
    return make_samples


@pytest.fixture(scope="session")
def write_tones() -> Callable[..., Path]:
    """Return the function that writes a set of tones; ``labels(i)`` names those of clip i."""

    def write(
        root: Path, *, clips: int = CLIPS, labels: Callable[[int], tuple[str, ...]] | None = None
    ) -> Path:
        root.mkdir(parents=True, exist_ok=True)
        rows = ["filepath,split,label"]
        for index in range(clips):
            both = list(TONES_HZ)
            names = labels(index) if labels else (both[index // len(SPLITS) % 2],)
            path = f"{index:02d}.wav"
            sf.write(root / path, make_samples(index, *names), RATE_HZ, subtype="PCM_16")
            rows.append(f"{path},{SPLITS[index % len(SPLITS)]},{';'.join(names)}")
        (root / "metadata.csv").write_text("\n".join(rows) + "\n")
        return root

    return write


@pytest.fixture(scope="session")
def small() -> dict[str, Any]:
    """Return options of ``fit`` that make a small mixture, by rule."""
    wishes = PolicyOverrides(num_bins=16, segment_s=0.3, experts=("broadband", "low", "high"))
    return {"epochs": 6, "batch_size": 6, "policy": "rule", "overrides": wishes}


@pytest.fixture(scope="session")
def tones(write_tones: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of sixty recordings of two tones, with a manifest."""
    return write_tones(tmp_path_factory.mktemp("set") / "tones")


@pytest.fixture(scope="session")
def fitted(
    tones: Path, small: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> MoEAudioClassifier:
    """Return a classifier fitted to the tones; its run folder is not to be changed."""
    run = tmp_path_factory.mktemp("fitted") / "run"
    return MoEAudioClassifier(device="cpu").fit(tones, out_dir=run, **small)
