"""A mixture with random weights, and a small data set of tones."""

import numpy as np
import pytest
import soundfile as sf

from tests.fixtures.runs import RATE_HZ, tiny_config, tiny_model
from xmoe.audio.dataset import load_dataset
from xmoe.predict.predictor import Predictor


@pytest.fixture(scope="session")
def predictor():
    """Return a predictor that nothing was fitted to, and whose answers differ between clips."""
    config = tiny_config(("a", "b"), experts=("low",), masked_experts=(), k_max=1)
    return Predictor(config, tiny_model(config, std=0.5))


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
