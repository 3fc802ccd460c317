"""Sound with holes: all is there where nothing is rubbed out, and a hole lies where it was cut."""

import pytest
import torch

from xmoe.audio.segment import Segment
from xmoe.audio.sound import hold_sound
from xmoe.base.config import SpectroConfig
from xmoe.explain.faithfulness import sample_noise_floor
from xmoe.explain.mask_sound import MOST_GAIN_DB, MaskableSound, interpolation
from xmoe.frontend.registry import build_frontend

RATE_HZ = 16_000
ROW = torch.zeros(1, dtype=torch.int64)


def make(frontend="logmel", *, rate_hz=RATE_HZ, seconds=1.0, **changes):
    """Return noise with two tones, and its front end."""
    config = SpectroConfig(**{"frontend": frontend, "num_bins": 32, "segment_s": 1.0} | changes)
    time_s = torch.arange(round(seconds * rate_hz)) / rate_hz
    generator = torch.Generator().manual_seed(0)
    tones = torch.sin(2 * torch.pi * 500 * time_s) + torch.sin(2 * torch.pi * 2500 * time_s)
    samples = 0.2 * tones + 0.02 * torch.randn(len(time_s), generator=generator)
    built, sound = build_frontend(config), hold_sound([Segment(samples.numpy(), rate_hz, 0)])
    return MaskableSound.of(built, sound, config.num_frames)


def level_of(masked, sound):
    again = MaskableSound.of(masked.frontend, sound, masked.level_db.shape[2])
    return again.level_db[0]


@pytest.mark.parametrize("frontend", ["stft", "logmel", "pcen", "cqt", "cwt"])
@pytest.mark.parametrize(("rate_hz", "seconds"), [(RATE_HZ, 1.0), (22_050, 0.9)])
def test_a_gain_of_one_returns_the_samples(frontend, rate_hz, seconds):
    masked = make(frontend, rate_hz=rate_hz, seconds=seconds)
    same = masked.mask(torch.zeros_like(masked.level_db), ROW)
    found, rate = same.read(0)
    expected, _ = masked.sound.read(0)
    assert (rate, len(found)) == (rate_hz, len(expected))
    assert found == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("frontend", ["stft", "logmel", "cqt"])
def test_a_masked_band_loses_its_energy_and_no_other_does(frontend):
    masked = make(frontend)
    gain_db = torch.zeros_like(masked.level_db)
    high = masked.frontend.bin_centers_hz > 1500
    gain_db[:, high] = -60.0
    samples, _ = masked.mask(gain_db, ROW).read(0)
    power = torch.fft.rfft(torch.from_numpy(samples)).abs().square()
    before = torch.fft.rfft(torch.from_numpy(masked.sound.read(0)[0])).abs().square()
    share = power / before
    assert float(share[2500]) < 1e-4
    assert float(share[500]) == pytest.approx(1.0, abs=0.02)


def test_a_masked_moment_is_silent_and_no_other_is():
    masked = make()
    gain_db = torch.zeros_like(masked.level_db)
    gain_db[:, :, 40:60] = -60.0
    samples, _ = masked.mask(gain_db, ROW).read(0)
    expected, _ = masked.sound.read(0)
    assert abs(samples[7000:9000]).max() < 0.01
    assert samples[:5500] == pytest.approx(expected[:5500], abs=1e-3)


def test_what_lies_beyond_the_band_goes_with_its_edge():
    masked = make(fmin_hz=1000.0, fmax_hz=2000.0)
    silent, _ = masked.mask(torch.full_like(masked.level_db, -80.0), ROW).read(0)
    assert abs(silent).max() < 1e-3


@pytest.mark.parametrize("frontend", ["stft", "logmel", "pcen"])
def test_the_spectrogram_of_masked_sound_is_the_masked_spectrogram(frontend):
    masked = make(frontend)
    generator = torch.Generator().manual_seed(1)
    floor = sample_noise_floor(masked.level_db, generator=generator)
    gone = torch.zeros_like(masked.level_db, dtype=torch.bool)
    gone[:, 12:, 30:70] = True
    wanted = torch.where(gone, floor, masked.level_db)[0]
    found = level_of(masked, masked.mask(wanted[None] - masked.level_db, ROW))
    both = torch.stack([found.flatten(), wanted.flatten()])
    assert float(torch.corrcoef(both)[0, 1]) > 0.95
    assert float((found - wanted)[~gone[0]].abs().mean()) < 0.5
    before = (masked.level_db[0] - wanted)[gone[0]].mean()
    assert float((found - wanted)[gone[0]].mean()) < 0.2 * float(before)


def test_no_cell_is_raised_without_bound_and_rows_are_picked():
    masked = make().repeat(2)
    gain_db = torch.full((1, *masked.level_db.shape[1:]), 99.0)
    loud = masked.mask(gain_db, torch.tensor([1]))
    ratio = abs(loud.read(0)[0]).max() / abs(masked.sound.read(1)[0]).max()
    assert ratio == pytest.approx(10 ** (MOST_GAIN_DB / 20), rel=1e-3)
    assert len(loud) == 1


def test_silence_stays_silence():
    config = SpectroConfig(num_bins=32)
    silence = hold_sound([Segment(torch.zeros(16_000).numpy(), 16_000, 0)])
    masked = MaskableSound.of(build_frontend(config), silence, config.num_frames)
    assert torch.isfinite(masked.level_db).all()
    assert not masked.mask(torch.zeros_like(masked.level_db), ROW).read(0)[0].any()


def test_interpolation_is_linear_and_ends_with_the_nearest():
    known, wanted = torch.tensor([1.0, 2.0, 4.0]), torch.tensor([0.0, 1.5, 2.0, 3.0, 9.0])
    values = interpolation(known, wanted) @ torch.tensor([10.0, 20.0, 40.0])
    assert values.tolist() == pytest.approx([10.0, 15.0, 20.0, 30.0, 40.0])
