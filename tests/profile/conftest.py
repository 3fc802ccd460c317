"""Rows made by hand: a plain clip that a test changes where it matters."""

from dataclasses import replace

import pytest

from xmoe.profile.clip_stats import ClipStats

PLAIN = ClipStats(
    clip_id="a.wav",
    filepath="a.wav",
    start_s=0.0,
    end_s=None,
    labels=("x",),
    split="train",
    group=None,
    sample_rate_hz=16_000,
    channels=1,
    bit_depth=16,
    format="WAV",
    duration_s=1.0,
    peak=0.5,
    clipping_rate=0.0,
    content_sha256="0",
    rms_db=-20.0,
    kurtosis=0.0,
    silence_rate=0.0,
    fmin_eff_hz=100.0,
    fmax_eff_hz=7000.0,
    snr_db=40.0,
    flatness=0.5,
    band_limit_hz=None,
    psd_db=(-60.0, -70.0),
)


@pytest.fixture
def plain():
    return PLAIN


@pytest.fixture
def make_rows():
    """Return a function: n rows over the classes in turn, ``change(i, label)`` gives the fields."""

    def make(count, *, labels=("x", "y"), change=lambda index, label: {}):
        rows = []
        for index in range(count):
            label = labels[index % len(labels)]
            name = f"{index:05d}.wav"
            row = replace(
                PLAIN, clip_id=name, filepath=name, labels=(label,), content_sha256=str(index)
            )
            rows.append(replace(row, **change(index, label)))
        return rows

    return make
