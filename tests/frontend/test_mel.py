"""Mel power against librosa, and filters that would be empty."""

import librosa
import numpy as np
import pytest
import torch

from xmoe.base.config import SpectroConfig
from xmoe.frontend.mel import LogMel, mel_filters, mel_points_hz

CONFIG = SpectroConfig(
    sample_rate_hz=22050, fmin_hz=300.0, fmax_hz=10000.0, n_fft=2048, win_length=2048, num_bins=40
)


def test_power_is_librosas():
    x = np.random.default_rng(1).standard_normal(22050).astype(np.float32)
    expected = librosa.feature.melspectrogram(
        y=x, sr=22050, n_fft=2048, hop_length=160, n_mels=40, fmin=300.0, fmax=10000.0,
        htk=True, norm=None, pad_mode="constant", power=2.0,
    )  # fmt: skip
    got = LogMel(CONFIG).power(torch.from_numpy(x)[None])[0].numpy()
    full_scale = (2.0 / np.hanning(2049)[:-1].sum()) ** 2
    np.testing.assert_allclose(got, expected * full_scale, rtol=2e-3, atol=1e-7)


def test_decibels_are_librosas():
    x = np.random.default_rng(2).standard_normal((1, 8000)).astype(np.float32)
    frontend = LogMel(SpectroConfig(floor_db=-30.0))
    power = frontend.power(torch.from_numpy(x))
    level_db = librosa.power_to_db(power[0].numpy(), ref=np.max, top_db=30.0)
    expected = (level_db - level_db.mean()) / level_db.std()
    np.testing.assert_allclose(frontend.compress(power)[0].numpy(), expected, atol=1e-3)


def test_wide_filters_are_left_as_torchaudio_has_them():
    filters = mel_filters(CONFIG).numpy()
    expected = librosa.filters.mel(
        sr=22050, n_fft=2048, n_mels=40, fmin=300.0, fmax=10000.0, htk=True, norm=None
    )
    np.testing.assert_allclose(filters.T, expected, atol=1e-4)


@pytest.mark.parametrize(("fmin_hz", "fmax_hz"), [(0.0, 8000.0), (0.0, 150.0), (7000.0, 7100.0)])
def test_filters_too_narrow_for_a_bin_interpolate(fmin_hz, fmax_hz):
    config = SpectroConfig(fmin_hz=fmin_hz, fmax_hz=fmax_hz, n_fft=256, win_length=256)
    filters = mel_filters(config)
    assert float(filters.sum(dim=0).min()) > 0.99
    assert filters.shape == (129, 64)


def test_corners_are_equally_spaced_in_mel():
    points_hz = mel_points_hz(SpectroConfig(fmin_hz=100.0, fmax_hz=8000.0))
    expected = librosa.mel_frequencies(66, fmin=100.0, fmax=8000.0, htk=True)
    np.testing.assert_allclose(points_hz.numpy(), expected, rtol=1e-9)
