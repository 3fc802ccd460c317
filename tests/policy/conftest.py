"""Profiles made by hand, and a small set of recordings that any classifier can tell apart."""

import numpy as np
import pytest
import soundfile as sf

from xmoe.audio.dataset import Dataset, Example
from xmoe.profile.assemble import merge_stats
from xmoe.profile.clip_stats import ClipStats
from xmoe.profile.profile import Quantiles

RATE = 8000


def clip_row(index: int) -> ClipStats:
    """Return a plain row of class x or y: one second at 16 kHz, 100 Hz to 7 kHz, good quality."""
    return ClipStats(
        clip_id=f"{index:03d}.wav",
        filepath=f"{index:03d}.wav",
        start_s=0.0,
        end_s=None,
        labels=("x" if index % 2 else "y",),
        split="train",
        group=None,
        sample_rate_hz=16_000,
        channels=1,
        bit_depth=16,
        format="WAV",
        duration_s=1.0,
        peak=0.5,
        clipping_rate=0.0,
        content_sha256=str(index),
        rms_db=-20.0,
        kurtosis=1.0,
        silence_rate=0.0,
        fmin_eff_hz=100.0,
        fmax_eff_hz=7000.0,
        snr_db=30.0,
        flatness=0.5,
        band_limit_hz=None,
        psd_db=(-60.0, -70.0),
    )


PLAIN = merge_stats([clip_row(index) for index in range(200)])


@pytest.fixture
def make_profile():
    """Return a function: the plain profile with some fields changed."""

    def make(**changes):
        if "duration_s" in changes:
            low, high = changes.pop("duration_s")
            lengths = Quantiles(
                min=low, p05=low, p25=low, p50=(low + high) / 2, p75=high, p95=high, max=high
            )
            changes["quantiles"] = {**PLAIN.quantiles, "duration_s": lengths}
        if "fs_mode_hz" in changes:
            changes.setdefault("fs_unique", {changes["fs_mode_hz"]: PLAIN.num_clips})
        return PLAIN.model_copy(update=changes)

    return make


@pytest.fixture
def profile(make_profile):
    """Return the plain profile: 200 clips of 1 s at 16 kHz, steady, 100 Hz to 7 kHz."""
    return make_profile()


@pytest.fixture
def make_examples():
    """Return a function: n train examples over the classes in turn, groups of a size if given."""

    def make(count, *, labels=("a", "b"), group_size=None):
        return [
            Example(
                filepath=f"{index:04d}.wav",
                split="train",
                labels=(labels[index % len(labels)],),
                group=None if group_size is None else f"g{index // group_size}",
            )
            for index in range(count)
        ]

    return make


@pytest.fixture(scope="session")
def tones(tmp_path_factory) -> Dataset:
    """Return 60 training clips of 0.25 s in three classes (300, 900, 2700 Hz in noise), 6 test."""
    root = tmp_path_factory.mktemp("tones")
    rng = np.random.default_rng(0)
    examples = []
    for index in range(66):
        name = ("low", "middle", "high")[index % 3]
        frequency_hz = 300.0 * 3 ** (index % 3) * rng.uniform(0.9, 1.1)
        times = np.arange(RATE // 4) / RATE
        wave = np.sin(2 * np.pi * frequency_hz * times) + 0.3 * rng.standard_normal(len(times))
        path = f"{name}-{index:02d}.wav"
        sf.write(root / path, 0.2 * wave, RATE, subtype="PCM_16")
        examples.append(
            Example(filepath=path, split="train" if index < 60 else "test", labels=(name,))
        )
    return Dataset(root, tuple(examples), ("low", "middle", "high"), "single_label")
