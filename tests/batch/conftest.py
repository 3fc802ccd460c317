"""A folder of short clips of which some are bad."""

import numpy as np
import pytest
import soundfile as sf


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
