"""Trials that were made up, so that the front is known, and a small set of tones to try on."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from xmoe.audio.dataset import load_dataset
from xmoe.base.config import TrainConfig
from xmoe.profile.assemble import profile_dataset
from xmoe.tuning.pareto import TuneResult
from xmoe.tuning.space import TuneCandidate
from xmoe.tuning.trial import TrialSetting

RATE_HZ = 8000
TONES_HZ = {"low": 500.0, "top": 2000.0}
SPLITS = ("train", "train", "train", "val", "test")


@pytest.fixture(scope="session")
def make_candidate():
    """Return the function that makes a candidate of three experts."""

    def make(**values):
        usual = {
            "frontend": "logmel",
            "num_bins": 16,
            "num_experts": 3,
            "k_max": 1,
            "window_frames": 2,
            "learning_rate": 0.01,
        }
        return TuneCandidate(**(usual | values))

    return make


@pytest.fixture(scope="session")
def make_result(make_candidate):
    """Return the function that makes a finished trial of some accuracy and cost."""

    def make(number, accuracy, mmac, **values):
        usual = {
            "candidate": make_candidate(),
            "standard_error": 0.01,
            "mean_k": 1.0,
            "latency_ms": 10.0 - mmac,
            "epochs": 3,
            "seconds": 1.0,
        }
        return TuneResult(number=number, accuracy=accuracy, mmac=mmac, **(usual | values))

    return make


@pytest.fixture(scope="session")
def tones(tmp_path_factory) -> Path:
    """Return sixty recordings of 0.3 s of two tones in noise, with a manifest."""
    root = tmp_path_factory.mktemp("tones")
    rows = ["filepath,split,label"]
    for index in range(60):
        rng = np.random.default_rng(index)
        name = list(TONES_HZ)[index // len(SPLITS) % 2]
        time_s = np.arange(round(0.3 * RATE_HZ)) / RATE_HZ
        samples = 0.2 * np.sin(2 * np.pi * TONES_HZ[name] * time_s)
        samples += 0.05 * rng.standard_normal(len(time_s))
        sf.write(root / f"{index:02d}.wav", samples, RATE_HZ, subtype="PCM_16")
        rows.append(f"{index:02d}.wav,{SPLITS[index % len(SPLITS)]},{name}")
    (root / "metadata.csv").write_text("\n".join(rows) + "\n")
    return root


@pytest.fixture(scope="session")
def shared(tones, tmp_path_factory) -> TrialSetting:
    """Return what trials on the tones share, with a folder that many tests work in."""
    data = load_dataset(tones)
    train = TrainConfig(epochs=4, batch_size=6, device="cpu")
    work = tmp_path_factory.mktemp("shared")
    return TrialSetting(data, profile_dataset(data).profile, work, train)


@pytest.fixture
def setting(shared, tmp_path) -> TrialSetting:
    """Return the same with a folder of its own."""
    return replace(shared, work_dir=tmp_path / "work")
