"""The measures of one incoming recording are those of the profile, and cheap on long ones."""

import numpy as np
import pytest

from xmoe.profile.clip_stats import measure_samples
from xmoe.serve.watch.incoming import measure_incoming

RATE_HZ = 16_000


def noise(rng, seconds=1.0, level=0.1):
    return rng.normal(0, level, round(seconds * RATE_HZ)).astype(np.float32)


def test_short_recording_is_measured_as_in_the_profile(rng):
    samples = noise(rng)
    found = measure_incoming(samples, RATE_HZ, clipping_rate=0.01)
    profile = measure_samples(samples, sample_rate_hz=RATE_HZ)
    for name in ("rms_db", "silence_rate", "snr_db", "fmax_eff_hz", "band_limit_hz"):
        assert getattr(found, name) == pytest.approx(getattr(profile, name)), name
    assert (found.duration_s, found.clipping_rate) == (1.0, 0.01)
    assert 0.0 < found.quality < 1.0


def test_long_recording_is_measured_on_fewer_frames_and_nearly_the_same(rng):
    time_s = np.arange(60 * RATE_HZ) / RATE_HZ
    samples = noise(rng, 60.0, 0.01) + np.sin(2 * np.pi * 1000 * time_s).astype(np.float32) / 4
    found = measure_incoming(samples, RATE_HZ, clipping_rate=0.0)
    profile = measure_samples(samples, sample_rate_hz=RATE_HZ)
    assert found.snr_db == pytest.approx(profile.snr_db, abs=1.0)
    assert found.fmax_eff_hz == pytest.approx(profile.fmax_eff_hz, rel=0.02)
    assert found.rms_db == pytest.approx(profile.rms_db, abs=1e-3)


@pytest.mark.parametrize("samples", [np.zeros(8000), np.full(8000, 0.5), np.zeros(200)])
def test_silence_has_no_band(samples):
    found = measure_incoming(samples.astype(np.float32), RATE_HZ, clipping_rate=0.0)
    assert (found.fmax_eff_hz, found.band_limit_hz) == (None, None)
    assert found.quality < 0.1
