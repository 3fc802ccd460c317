"""CQT against librosa's."""

import librosa
import numpy as np
import torch

from xmoe.base.config import SpectroConfig
from xmoe.frontend.cqt import Cqt

CONFIG = SpectroConfig(
    frontend="cqt", fmin_hz=100.0, fmax_hz=3200.0, num_bins=61, hop_length=160, segment_s=4.0
)


def librosa_power(x: np.ndarray) -> np.ndarray:
    coefficients = librosa.cqt(
        x, sr=16000, hop_length=160, fmin=100.0, n_bins=61, bins_per_octave=12, norm=1,
        scale=False, pad_mode="constant",
    )  # fmt: skip
    frequencies_hz = librosa.cqt_frequencies(61, fmin=100.0)
    lengths = librosa.filters.wavelet_lengths(freqs=frequencies_hz, sr=16000)[0]
    return np.abs(2 * coefficients / lengths[:, None]) ** 2


def test_tones_have_librosas_levels():
    times_s = np.arange(32000) / 16000
    tones = ((200.0, 1.0), (555.0, 0.3), (2100.0, 0.1))
    x = sum(level * np.sin(2 * np.pi * hz * times_s) for hz, level in tones).astype(np.float32)
    ours = Cqt(CONFIG).power(torch.from_numpy(x)[None])[0, :, 50:150].mean(dim=1).numpy()
    theirs = librosa_power(x)[:, 50:150].mean(axis=1)
    loud = theirs > theirs.max() * 1e-3
    assert loud.sum() > 5
    np.testing.assert_allclose(10 * np.log10(ours[loud] / theirs[loud]), 0.0, atol=0.7)


def test_noise_fluctuates_as_librosas():
    x = np.random.default_rng(0).standard_normal(32000).astype(np.float32)
    ours, theirs = Cqt(CONFIG).power(torch.from_numpy(x)[None])[0].numpy(), librosa_power(x)
    for row in range(0, 24, 4):
        assert np.corrcoef(ours[row, 20:-20], theirs[row, 20:-20])[0, 1] > 0.99
    ratio = ours.mean(axis=1) / theirs.mean(axis=1)
    np.testing.assert_allclose(ratio, 1.0, atol=0.25)


def test_centres_are_librosas():
    expected = librosa.cqt_frequencies(61, fmin=100.0)
    np.testing.assert_allclose(Cqt(CONFIG).bin_centers_hz.numpy(), expected, rtol=1e-4)


def test_windows_have_constant_q_and_end_at_half_a_segment():
    lengths_s = Cqt(CONFIG.model_copy(update={"segment_s": 0.2})).lengths_s
    cycles = lengths_s * Cqt(CONFIG).centers_hz
    assert float(lengths_s.max()) == 0.1
    torch.testing.assert_close(cycles[-20:], cycles[-1:].expand(20))
