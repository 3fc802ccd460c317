"""The band-limited filter bank against direct convolution at the full sample rate."""

import numpy as np
import pytest
import torch

from xmoe.base.config import SpectroConfig
from xmoe.frontend.cqt import Cqt
from xmoe.frontend.cwt import Cwt
from xmoe.frontend.filterbank import Filterbank, next_smooth, transform_real

RATE_HZ, HOP = 4000, 40


def config(name: str, **changes) -> SpectroConfig:
    settings = {
        "frontend": name,
        "sample_rate_hz": RATE_HZ,
        "fmin_hz": 100.0,
        "fmax_hz": 1500.0,
        "n_fft": 128,
        "win_length": 100,
        "hop_length": HOP,
        "num_bins": 24,
        "segment_s": 1.0,
    }
    return SpectroConfig(**(settings | changes))


def envelope(frontend: Filterbank, row: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the times and the window of one filter, by its definition in time."""
    reach_s = 5 * frontend.reach_s
    times_s = np.arange(-int(reach_s * RATE_HZ), int(reach_s * RATE_HZ) + 1) / RATE_HZ
    if isinstance(frontend, Cqt):
        length_s = float(frontend.lengths_s[row])
        inside = np.abs(times_s) <= length_s / 2
        return times_s, (0.5 + 0.5 * np.cos(2 * np.pi * times_s / length_s)) * inside
    assert isinstance(frontend, Cwt)
    deviation_s = 1 / (2 * np.pi * float(frontend.deviations_hz[row]))
    return times_s, np.exp(-0.5 * (times_s / deviation_s) ** 2)


def direct_power(frontend: Filterbank, x: np.ndarray, row: int) -> np.ndarray:
    """Convolve with the filter, square, and average over the hop around each frame's centre."""
    times_s, window = envelope(frontend, row)
    carrier = np.exp(2j * np.pi * float(frontend.centers_hz[row]) * times_s)
    full = np.abs(np.convolve(x, 2 * window / window.sum() * carrier)) ** 2
    centre = len(times_s) // 2
    hop_weights = np.r_[0.5, np.ones(HOP - 1), 0.5] / HOP
    frames = range(centre, centre + len(x) + 1, HOP)
    return np.array([full[at - HOP // 2 : at + HOP // 2 + 1] @ hop_weights for at in frames])


@pytest.mark.parametrize("kind", [Cqt, Cwt])
@pytest.mark.parametrize("row", [0, 6, 12, 20])
def test_power_is_that_of_direct_convolution(kind, row):
    rng = np.random.default_rng(row)
    x = rng.standard_normal(RATE_HZ)
    x[1234] += 30.0
    frontend = kind(config(kind.__name__.lower()))
    got = frontend.power(torch.from_numpy(x)[None])[0, row].numpy()
    expected = direct_power(frontend, x, row)
    assert np.abs(got - expected).max() < 0.04 * expected.max()
    assert np.abs(got - expected).sum() < 0.03 * expected.sum()


@pytest.mark.parametrize("kind", [Cqt, Cwt])
def test_the_end_does_not_wrap_around_to_the_beginning(kind):
    x = torch.zeros(1, RATE_HZ)
    x[0, -400:] = torch.sin(torch.arange(400) * 0.5)
    power = kind(config(kind.__name__.lower())).power(x)[0]
    assert float(power[:, :30].max()) < 1e-4 * float(power.max())


@pytest.mark.parametrize("kind", [Cqt, Cwt])
def test_a_click_between_two_centres_weighs_as_much_as_one_on_a_centre(kind):
    frontend = kind(config(kind.__name__.lower()))
    x = torch.zeros(2, RATE_HZ)
    x[0, 50 * HOP] = x[1, 50 * HOP + HOP // 2] = 1.0
    heights = frontend.power(x)[:, 12:].sum(dim=(1, 2))
    torch.testing.assert_close(heights[0], heights[1], rtol=0.02, atol=0)


def test_a_band_from_0_hz_is_lifted_to_eight_octaves():
    frontend = Cwt(config("cwt", fmin_hz=0.0, fmax_hz=1280.0))
    assert float(frontend.bin_centers_hz[0]) == pytest.approx(5.0)


def test_plans_are_kept_for_a_few_lengths_only():
    frontend = Cwt(config("cwt"))
    for frames in range(20, 400, 20):
        frontend.power(torch.zeros(1, frames * HOP))
    assert len(frontend._plans) <= 4


@pytest.mark.parametrize(("least", "expected"), [(1, 1), (7, 8), (97, 100), (1025, 1080)])
def test_next_smooth_has_small_factors(least, expected):
    assert next_smooth(least) == expected


def test_rates_per_hop_are_odd():
    assert [next_smooth(n, factors=(3, 5)) for n in (1, 2, 4, 10, 28)] == [1, 3, 5, 15, 45]


@pytest.mark.parametrize("points", [1000, 1001, 1280])
def test_a_real_transform_of_half_the_length_is_the_whole_one(points):
    x = torch.randn(2, 997, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = torch.fft.rfft(x, n=points)
    found = transform_real(x.float(), points)
    torch.testing.assert_close(found, expected.to(torch.complex64), rtol=1e-4, atol=1e-4)


def test_gradients_pass_through_the_transform():
    x = torch.randn(1, 64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    transform_real(x, 64).abs().square().sum().backward()
    by_torch = x.detach().clone().requires_grad_()
    torch.fft.rfft(by_torch, n=64).abs().square().sum().backward()
    torch.testing.assert_close(x.grad, by_torch.grad, rtol=1e-4, atol=1e-3)
