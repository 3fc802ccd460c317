"""What every front end promises, whichever it is."""

import pickle

import pytest
import torch

from xmoe.base.config import SpectroConfig
from xmoe.frontend import Frontend, build_frontend
from xmoe.frontend.registry import FRONTENDS

NAMES = tuple(FRONTENDS)
RATE_HZ = 8000


def make(name: str, **changes) -> Frontend:
    settings = {
        "frontend": name,
        "sample_rate_hz": RATE_HZ,
        "fmin_hz": 60.0,
        "fmax_hz": 3900.0,
        "n_fft": 256,
        "win_length": 200,
        "hop_length": 80,
        "num_bins": 32,
    }
    return build_frontend(SpectroConfig(**(settings | changes)))


def sine(frequency_hz: float, num_samples: int = RATE_HZ) -> torch.Tensor:
    times_s = torch.arange(num_samples) / RATE_HZ
    return torch.sin(2 * torch.pi * frequency_hz * times_s)[None]


def noise(batch: int = 2, num_samples: int = RATE_HZ) -> torch.Tensor:
    return torch.randn(batch, num_samples, generator=torch.Generator().manual_seed(3)) * 0.1


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("num_samples", [1, 79, 80, 81, 127, 4000, 8001])
def test_any_length_gives_the_promised_number_of_frames(name, num_samples):
    frontend = make(name)
    spec = frontend(noise(2, num_samples))
    assert spec.shape == (2, 32, num_samples // 80 + 1)
    assert frontend.num_frames(num_samples) == spec.shape[-1]
    assert spec.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("frequency_hz", [400.0, 1000.0, 3000.0])
def test_a_full_scale_sine_peaks_at_its_own_bin_with_power_about_one(name, frequency_hz):
    frontend = make(name)
    power = frontend.power(sine(frequency_hz))[0, :, 20:-20].mean(dim=1)
    nearest = int((frontend.bin_centers_hz - frequency_hz).abs().argmin())
    assert abs(int(power.argmax()) - nearest) <= 1
    assert 0.5 < float(power.max()) < 2.0


@pytest.mark.parametrize("name", NAMES)
def test_a_click_is_loudest_in_the_frame_that_holds_it(name):
    x = torch.zeros(1, RATE_HZ)
    x[0, 50 * 80 + 15] = 1.0
    frontend = make(name)
    assert int(frontend.power(x)[0, 16:].sum(dim=0).argmax()) == 50


@pytest.mark.parametrize("name", NAMES)
def test_bins_rise_inside_the_band_and_none_is_deaf(name):
    frontend = make(name)
    centres = frontend.bin_centers_hz
    assert (torch.diff(centres) > 0).all()
    assert 59.9 < float(centres[0]) < float(centres[-1]) < 3900.1
    assert (frontend.power(noise())[..., 5:-5].mean(dim=(0, 2)) > 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_compressed_clips_have_mean_zero_and_deviation_one(name):
    spec = make(name)(noise())
    torch.testing.assert_close(spec.mean(dim=(1, 2)), torch.zeros(2), atol=1e-4, rtol=0)
    torch.testing.assert_close(spec.std(dim=(1, 2)), torch.ones(2), atol=2e-2, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_gain_does_not_change_the_compressed_clip(name):
    frontend, x = make(name), noise()
    torch.testing.assert_close(frontend(x), frontend(x * 1e-3), atol=2e-3, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_silence_is_flat_zero_and_has_a_finite_gradient(name):
    x = torch.zeros(1, 4000, requires_grad=True)
    spec = make(name)(x)
    assert float(spec.detach().abs().max()) < 1e-3
    spec.square().sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_padding_changes_nothing_and_looks_like_silence(name):
    frontend, x = make(name), noise(1, 4000)
    alone = frontend(x)
    padded = torch.nn.functional.pad(x, (0, 4000))
    spec = frontend(padded, torch.tensor([51]))
    torch.testing.assert_close(spec[..., :51], alone, atol=3e-2, rtol=0)
    assert spec[..., 60:].std() < 0.05
    assert spec[..., 60:].amax() <= alone.amin() + 0.1


@pytest.mark.parametrize("name", NAMES)
def test_all_frames_valid_is_the_same_as_no_mask(name):
    frontend, x = make(name), noise(2, 4000)
    masked = frontend(x, torch.tensor([51, 51]))
    torch.testing.assert_close(masked, frontend(x), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_each_clip_is_independent_of_its_batch(name):
    frontend, x = make(name), noise(3, 3000)
    torch.testing.assert_close(frontend(x)[1:2], frontend(x[1:2]), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_the_gradient_reaches_the_waveform_and_is_right(name):
    frontend, x = make(name), noise(1, 1000).requires_grad_()
    frontend.power(x).sum().backward()
    assert x.grad is not None
    direction = x.grad / x.grad.norm()
    step = 1e-2
    with torch.no_grad():
        ahead = frontend.power(x + step * direction).sum()
        behind = frontend.power(x - step * direction).sum()
    slope = float((ahead - behind) / (2 * step))
    assert float((x.grad * direction).sum()) == pytest.approx(slope, rel=2e-2)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_to_learn_nothing_to_save_and_it_travels(name):
    frontend, x = make(name), noise(1, 2000)
    expected = frontend(x)
    assert not list(frontend.parameters())
    assert not frontend.state_dict()
    again = pickle.loads(pickle.dumps(frontend))
    assert torch.equal(again(x), expected)


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_regions_do_not_touch_it(name):
    frontend, x = make(name), noise(1, 2000)
    expected = frontend(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(frontend(x), expected)


@pytest.mark.parametrize("name", NAMES)
def test_narrow_low_bands_and_many_bins_leave_no_bin_empty(name):
    frontend = make(name, fmin_hz=10.0, fmax_hz=200.0, num_bins=96)
    power = frontend.power(noise(1, 2 * RATE_HZ))
    assert power.shape[1] == 96
    assert (power.mean(dim=(0, 2)) > 0).all()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", NAMES)
def test_the_gpu_gives_the_same_spectrogram(name):
    frontend, x = make(name), noise(4)
    on_cpu = frontend(x)
    on_gpu = frontend.to("cuda")(x.to("cuda"))
    torch.testing.assert_close(on_gpu.cpu(), on_cpu, atol=2e-3, rtol=0)
