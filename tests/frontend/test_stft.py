"""STFT power against scipy, and the rows that gather its bins."""

import numpy as np
import pytest
import scipy.signal
import torch

from xmoe.base.config import SpectroConfig
from xmoe.frontend.mel import LogMel
from xmoe.frontend.stft import Stft, fft_bins_hz, row_weights, split_bank


def config(**changes) -> SpectroConfig:
    settings = {"frontend": "stft", "n_fft": 512, "win_length": 400, "num_bins": 64}
    return SpectroConfig(**(settings | changes))


def test_power_is_scipys_when_every_row_is_one_bin():
    x = np.random.default_rng(0).standard_normal(8000).astype(np.float32)
    one_bin_rows = config(fmin_hz=16000 / 1024, fmax_hz=64.5 * 16000 / 512)
    frontend = Stft(one_bin_rows)
    window = scipy.signal.get_window("hann", 400)
    padded = np.pad(x, 200)
    starts = range(0, len(x) + 1, 160)
    frames = np.stack([padded[start : start + 400] * window for start in starts])
    spectrum = np.fft.rfft(frames, n=512) * 2 / window.sum()
    bins = np.abs(spectrum.T) ** 2
    # a row one bin wide integrates the line through its neighbours: 1/8, 3/4, 1/8
    expected = 0.75 * bins[1:65] + 0.125 * (bins[:64] + bins[2:66])
    got = frontend.power(torch.from_numpy(x)[None])[0].numpy()
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-6)


def test_wide_rows_sum_their_bins_and_narrow_rows_average():
    bins_hz = torch.arange(9, dtype=torch.float64)
    wide = row_weights(torch.tensor([1.0, 4.0], dtype=torch.float64), bins_hz)
    assert float(wide.sum()) == pytest.approx(3.0)
    narrow = row_weights(torch.tensor([2.25, 2.75], dtype=torch.float64), bins_hz)
    torch.testing.assert_close(narrow[2:4, 0], torch.tensor([0.5, 0.5], dtype=torch.float64))
    assert float(narrow.sum()) == pytest.approx(1.0)


@pytest.mark.parametrize("num_bins", [16, 64, 400])
def test_rows_see_a_flat_spectrum_as_flat(num_bins):
    frontend = Stft(config(num_bins=num_bins, fmin_hz=500.0, fmax_hz=7000.0))
    sums = frontend.filters.sum(dim=0)
    torch.testing.assert_close(sums, sums[:1].expand_as(sums), rtol=1e-4, atol=0)


def test_centres_are_equally_spaced_in_hz():
    centres_hz = Stft(config(fmin_hz=0.0, fmax_hz=6400.0)).bin_centers_hz
    torch.testing.assert_close(centres_hz, torch.arange(64) * 100.0 + 50.0)


def test_only_the_bins_of_the_band_are_multiplied():
    frontend = Stft(config(fmin_hz=1000.0, fmax_hz=2000.0))
    bins_hz = fft_bins_hz(frontend.config)
    assert float(bins_hz[frontend.first_bin]) > 960
    assert float(bins_hz[frontend.last_bin - 1]) < 2040


@pytest.mark.parametrize("kind", [Stft, LogMel])
def test_a_large_bank_in_blocks_gives_the_power_of_one_product(kind):
    frontend = kind(config(n_fft=2048, win_length=2048))
    x = torch.randn(2, 16000, generator=torch.Generator().manual_seed(0))
    in_blocks = frontend.power(x)
    assert len(frontend._blocks) > 1
    frontend._blocks = split_bank(frontend.filters, 1)
    torch.testing.assert_close(in_blocks, frontend.power(x), rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("count", [1, 3, 4])
def test_blocks_of_a_bank_hold_all_of_it_and_each_filter_once(count):
    filters = LogMel(config(n_fft=2048, win_length=2048)).filters
    rest, rows = filters.clone(), []
    for bins, columns in split_bank(filters, count):
        rest[bins, columns] = 0.0
        rows += range(columns.start, columns.stop)
    assert not rest.any()
    assert rows == list(range(filters.shape[1]))
