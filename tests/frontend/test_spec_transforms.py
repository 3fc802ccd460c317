"""Each transform of power with fixed parameters gives an answer that is known beforehand."""

import math

import numpy as np
import pytest
import torch

from xmoe.base.config import SpectroConfig
from xmoe.frontend import build_frontend
from xmoe.frontend.spec_transforms import (
    add_noise,
    band_response,
    clip_peaks_power,
    fill,
    frequency_warp,
    noise_floor,
    smooth_response,
    stripes,
    time_warp,
)

CENTRES_HZ = torch.arange(1, 65) * 100.0
INF = math.inf


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def flat(batch: int = 4, frames: int = 64) -> torch.Tensor:
    return torch.ones(batch, 64, frames)


def whole(power: torch.Tensor) -> torch.Tensor:
    return torch.full((len(power),), power.shape[-1])


def noise_of(snr_db: float, slope: float) -> torch.Tensor:
    power = flat(64)
    noisy = add_noise(
        power,
        snr_db=torch.full((64,), snr_db),
        slope=torch.full((64,), slope),
        bin_centers_hz=CENTRES_HZ,
        generator=generator(),
    )
    return noisy - power


def test_the_noise_floor_is_the_quietest_block_of_each_bin():
    power = flat(1, 40)
    power[0, 3, 16:24] = 0.25
    power[0, 5, 3] = 0.0
    floor = noise_floor(power, whole(power))[0, :, 0]
    assert float(floor[3]) == 0.25
    assert float(floor[5]) == pytest.approx(7 / 8)
    assert noise_floor(flat(2, 3), torch.tensor([3, 1])).shape == (2, 64, 1)


def test_padding_is_not_the_noise_floor():
    power = flat(2, 40)
    power[0, :, 17:] = 0.0
    power[1, :, 3:] = 0.0
    floor = noise_floor(power, torch.tensor([17, 3]))[..., 0]
    assert (floor[0] == 1.0).all()
    assert (floor[1] == 3 / 8).all()


def test_a_short_clip_moves_within_its_own_frames():
    power = torch.arange(1.0, 41.0).expand(2, 64, 40).contiguous()
    moved = time_warp(
        power,
        stretch=torch.tensor([1.0, 2.0]),
        shift_share=torch.tensor([0.5, 0.0]),
        valid_frames=torch.tensor([20, 21]),
    )
    assert moved[0, 0, 10:20].tolist() == list(range(1, 11))
    assert moved[1, 0, 10].item() == 11
    assert moved[1, 0, [0, 20]].tolist() == [6, 16]
    assert torch.equal(moved[0, :, 20:], power[0, :, 20:])
    assert torch.equal(moved[1, :, 21:], power[1, :, 21:])


@pytest.mark.parametrize("factor", [0.5, 0.8, 1.0, 1.25, 2.0])
def test_a_tone_moves_to_factor_times_its_frequency(factor):
    power = torch.zeros(1, 64, 5)
    power[0, 19] = 1.0  # 2000 Hz
    moved = frequency_warp(power, torch.tensor([factor]), bin_centers_hz=CENTRES_HZ)
    assert float(CENTRES_HZ[int(moved[0, :, 0].argmax())]) == pytest.approx(2000 * factor)
    assert float(moved.amax()) == pytest.approx(1.0)


def test_warping_by_one_changes_nothing_and_clips_have_their_own_factor():
    power = torch.rand(2, 64, 7, generator=generator())
    moved = frequency_warp(power, torch.tensor([1.0, 1.5]), bin_centers_hz=CENTRES_HZ)
    torch.testing.assert_close(moved[0], power[0])
    assert not torch.allclose(moved[1], power[1])


def test_warping_follows_a_waveform_played_faster():
    frontend = build_frontend(SpectroConfig())
    times_s = torch.arange(16000) / 16000
    slow, fast = (torch.sin(2 * torch.pi * hz * times_s)[None] for hz in (1000, 1200))
    moved = frequency_warp(
        frontend.power(slow), torch.tensor([1.2]), bin_centers_hz=frontend.bin_centers_hz
    )
    expected = frontend.power(fast)
    assert int(moved[0, :, 50].argmax()) == int(expected[0, :, 50].argmax())


def test_a_delay_moves_frames_and_fills_with_the_floor():
    power = torch.arange(1.0, 41.0).expand(1, 64, 40).contiguous()
    still, valid = torch.ones(1), whole(power)
    moved = time_warp(power, stretch=still, shift_share=torch.tensor([0.25]), valid_frames=valid)
    torch.testing.assert_close(moved[..., 10:], power[..., :30])
    torch.testing.assert_close(moved[..., :10], noise_floor(power, valid).expand(1, 64, 10))
    back = time_warp(moved, stretch=still, shift_share=torch.tensor([-0.25]), valid_frames=valid)
    torch.testing.assert_close(back[..., :30], power[..., :30])


def test_a_stretch_by_two_doubles_an_event_about_the_middle():
    power = torch.full((1, 64, 101), 0.1)
    power[..., 45:56] = 1.0
    doubled = time_warp(
        power, stretch=torch.tensor([2.0]), shift_share=torch.zeros(1), valid_frames=whole(power)
    )
    loud = (doubled[0, 0] > 0.5).nonzero().flatten()
    assert 20 <= len(loud) <= 22
    assert float(loud.float().mean()) == pytest.approx(50.0, abs=0.6)


@pytest.mark.parametrize("snr_db", [-10.0, 0.0, 20.0])
@pytest.mark.parametrize("slope", [-2.0, 0.0])
def test_noise_has_the_asked_energy(snr_db, slope):
    measured_db = -10 * math.log10(float(noise_of(snr_db, slope).mean()))
    assert measured_db == pytest.approx(snr_db, abs=0.2)


@pytest.mark.parametrize("slope", [-2.0, -1.0, 0.5])
def test_noise_has_the_asked_colour(slope):
    level = noise_of(0.0, slope).mean(dim=(0, 2))
    fitted = np.polyfit(np.log(CENTRES_HZ.numpy()), np.log(level.numpy()), 1)[0]
    assert fitted == pytest.approx(slope, abs=0.05)


def test_noise_fluctuates_as_an_exponential_where_bins_are_narrow():
    added = noise_of(0.0, 0.0)
    assert float(added.std() / added.mean()) == pytest.approx(1.0, abs=0.05)
    assert float((added < 0.693 * added.mean()).float().mean()) == pytest.approx(0.5, abs=0.02)


def test_drawn_noise_is_like_noise_through_the_front_end():
    frontend = build_frontend(SpectroConfig())
    samples = 4096 * frontend.config.hop_length
    bank = frontend.power(torch.randn(1, samples, generator=generator()))[0, :, :4096]
    added = add_noise(
        flat(32),
        snr_db=torch.zeros(32),
        slope=torch.zeros(32),
        bin_centers_hz=frontend.bin_centers_hz,
        generator=generator(),
    ) - flat(32)
    drawn, real = added.transpose(0, 1).flatten(1), bank
    level_db = 10 * torch.log10(drawn.mean(1) / real.mean(1))
    assert float(level_db[8:].std()) < 0.3
    spread = (drawn.std(1) / drawn.mean(1)) / (real.std(1) / real.mean(1))
    assert 0.7 < float(spread.min()) < float(spread.max()) < 1.4


def test_an_infinite_snr_adds_nothing():
    assert float(noise_of(INF, -1.0).abs().max()) == 0.0


def test_filters_have_their_corners_slopes_and_stop_band():
    response = band_response(
        CENTRES_HZ,
        low_pass_hz=torch.tensor([2000.0, INF, 800.0]),
        high_pass_hz=torch.tensor([0.0, 1000.0, 0.0]),
        order=torch.tensor([4.0, 2.0, 16.0]),
    )
    level_db = 10 * torch.log10(response)
    assert float(level_db[0, 19]) == pytest.approx(-3.01, abs=0.01)
    assert float(level_db[0, 39]) == pytest.approx(-24.1, abs=0.1)
    assert float(level_db[1, 9]) == pytest.approx(-3.01, abs=0.01)
    assert float(level_db[1, 4]) == pytest.approx(-12.3, abs=0.1)
    assert float(level_db[2, 63]) == pytest.approx(-90.0, abs=0.01)


def test_an_uneven_response_joins_its_points():
    response = smooth_response(torch.tensor([[0.0, 10.0], [3.0, 3.0]]), 11)
    torch.testing.assert_close(10 * torch.log10(response[0]), torch.arange(11.0))
    torch.testing.assert_close(10 * torch.log10(response[1]), torch.full((11,), 3.0))


def test_masked_bins_and_frames_show_the_floor():
    power = torch.rand(2, 64, 40, generator=generator()) + 1.0
    bins = stripes(torch.tensor([[3.0], [0.0]]), torch.tensor([[2.0], [0.0]]), 64)
    frames = stripes(
        torch.tensor([[30.0, 0.0], [0.0, 0.0]]), torch.tensor([[10.0, 1.0], [0, 0]]), 40
    )
    assert bins[0].nonzero().flatten().tolist() == [3, 4]
    assert int(frames[0].sum()) == 11
    filled = fill(power, bins=bins, frames=frames, valid_frames=whole(power))
    floor = noise_floor(power, whole(power))
    torch.testing.assert_close(filled[1], power[1])
    torch.testing.assert_close(filled[0, 3], floor[0, 3].expand(40))
    torch.testing.assert_close(filled[0, 9, 1:30], power[0, 9, 1:30])
    torch.testing.assert_close(filled[0, 9, 30:], floor[0, 9].expand(10))
    padded = fill(power, bins=bins, frames=frames, valid_frames=torch.tensor([35, 35]))
    torch.testing.assert_close(padded[..., 35:], power[..., 35:])


def test_clipping_a_tone_gives_odd_harmonics():
    power = torch.zeros(1, 64, 3)
    power[0, 9] = 1.0  # 1000 Hz
    clipped = clip_peaks_power(power, torch.tensor([20.0]), bin_centers_hz=CENTRES_HZ)[0, :, 0]
    assert int(clipped.argmax()) == 9
    assert float(clipped[29]) > 20 * float(clipped[19])
    assert float(clipped[49]) > 20 * float(clipped[39])
    assert float(clipped[29] / clipped[49]) == pytest.approx(25 / 9, rel=0.1)


def test_no_clipping_is_the_identity_and_silence_stays_finite():
    power = torch.rand(2, 64, 5, generator=generator())
    power[1] = 0.0
    same = clip_peaks_power(power, torch.full((2,), -INF), bin_centers_hz=CENTRES_HZ)
    assert torch.equal(same, power)
    assert (
        clip_peaks_power(power, torch.full((2,), 9.0), bin_centers_hz=CENTRES_HZ).isfinite().all()
    )


def test_clipped_power_is_nearer_to_a_clipped_waveform_than_clean_power_is():
    frontend = build_frontend(SpectroConfig())
    times_s = torch.arange(16000) / 16000
    voice = sum(torch.sin(2 * torch.pi * 150 * n * times_s + n * n) / n for n in range(1, 9))
    hiss = 1e-3 * torch.randn(1, 16000, generator=generator())
    x = (voice * torch.hann_window(16000))[None] + hiss
    threshold = float(x.abs().quantile(0.9))
    truth = frontend(x.clamp(-threshold, threshold))
    power = frontend.power(x)
    imitated = frontend.compress(
        clip_peaks_power(power, torch.tensor([-5.0]), bin_centers_hz=frontend.bin_centers_hz)
    )
    gap = float((frontend.compress(power) - truth).abs().mean())
    assert float((imitated - truth).abs().mean()) < 0.6 * gap
