"""The draw of augmentations: identity at 0, exact when low = high, repeatable, one per clip."""

import dataclasses

import pytest
import torch

from xmoe.frontend.spec_augment import AugmentConfig, add_noise_power, augment_batch, mixup
from xmoe.frontend.spec_transforms import frequency_warp, time_warp

CENTRES_HZ = torch.arange(1, 65) * 100.0
USUAL = AugmentConfig()
STILL = AugmentConfig(
    noise_probability=0.0,
    clipping_probability=0.0,
    equaliser_db=0.0,
    low_pass_probability=0.0,
    high_pass_probability=0.0,
    speed=(1.0, 1.0),
    warp=(1.0, 1.0),
    stretch=(1.0, 1.0),
    shift_share=(0.0, 0.0),
    frequency_mask_share=0.0,
    time_mask_share=0.0,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def clips(batch: int = 8, frames: int = 80) -> torch.Tensor:
    return torch.rand(batch, 64, frames, generator=generator(9)) + 0.01


def augment(power: torch.Tensor, config: AugmentConfig = USUAL, *, seed: int = 0) -> torch.Tensor:
    return augment_batch(power, config, bin_centers_hz=CENTRES_HZ, generator=generator(seed))


def test_chances_and_ranges_of_nothing_change_nothing():
    torch.testing.assert_close(augment(clips(), STILL), clips(), rtol=1e-5, atol=0)


@pytest.mark.parametrize("all_at_once", [False, True])
def test_power_stays_finite_and_of_the_same_shape(all_at_once):
    always = {name: 1.0 for name in vars(USUAL) if name.endswith("_probability")}
    config = dataclasses.replace(USUAL, **always) if all_at_once else USUAL
    power = clips()
    power[0] = 0.0
    out = augment(power, config)
    assert out.shape == power.shape
    assert out.isfinite().all()
    assert (out >= 0).all()


def test_one_seed_gives_one_answer():
    assert torch.equal(augment(clips(), seed=4), augment(clips(), seed=4))
    assert not torch.equal(augment(clips(), seed=4), augment(clips(), seed=5))


def test_the_global_random_state_is_not_touched():
    torch.manual_seed(7)
    before = torch.get_rng_state()
    augment(clips())
    assert torch.equal(torch.get_rng_state(), before)


def test_every_clip_draws_its_own_parameters():
    out = augment(clips(1).expand(8, -1, -1).contiguous())
    assert len({float(clip.mean()) for clip in out}) == 8


def test_a_fixed_warp_is_exactly_the_warp():
    config = dataclasses.replace(STILL, warp=(1.25, 1.25))
    expected = frequency_warp(clips(), torch.full((8,), 1.25), bin_centers_hz=CENTRES_HZ)
    torch.testing.assert_close(augment(clips(), config), expected, rtol=1e-5, atol=0)


def test_a_fixed_shift_is_exactly_the_shift():
    config = dataclasses.replace(STILL, shift_share=(0.25, 0.25))
    expected = time_warp(
        clips(),
        stretch=torch.ones(8),
        shift_share=torch.full((8,), 0.25),
        valid_frames=torch.full((8,), 80),
    )
    torch.testing.assert_close(augment(clips(), config), expected, rtol=1e-5, atol=0)


def test_speed_raises_the_pitch_and_shortens():
    power = torch.full((1, 64, 101), 1e-4)
    power[0, 19, 30:71] = 1.0
    out = augment(power, dataclasses.replace(STILL, speed=(2.0, 2.0)))[0]
    assert int(out.mean(dim=1).argmax()) == 39
    assert 19 <= int((out[39] > 0.5).sum()) <= 22


def test_noise_is_added_at_the_fixed_snr():
    config = dataclasses.replace(
        STILL, noise_probability=1.0, noise_snr_db=(6.0, 6.0), noise_slope=(0.0, 0.0)
    )
    power = clips(64)
    added = augment(power, config) - power
    snr_db = 10 * torch.log10(power.mean() / added.mean())
    assert float(snr_db) == pytest.approx(6.0, abs=0.2)


def test_noise_alone_needs_only_a_range_and_a_generator():
    power = clips(64)
    added = add_noise_power(power, snr_db_range=(3.0, 3.0), generator=generator()) - power
    assert float(10 * torch.log10(power.mean() / added.mean())) == pytest.approx(3.0, abs=0.2)


def test_padding_is_neither_moved_nor_masked():
    power = clips(200)
    power[..., 30:] = 0.0
    config = dataclasses.replace(
        AugmentConfig(), noise_probability=0.0, clipping_probability=0.0, time_mask_share=0.5
    )
    out = augment_batch(
        power,
        config,
        bin_centers_hz=CENTRES_HZ,
        generator=generator(),
        valid_frames=torch.full((200,), 30),
    )
    assert not out[..., 30:].any()
    assert float(out[..., :30].min()) > 0.0


def test_a_fixed_low_pass_silences_what_is_above():
    config = dataclasses.replace(STILL, low_pass_probability=1.0, low_pass_share=(0.5, 0.5))
    ratio = augment(clips(), config) / clips()
    assert float(ratio[:, 31, :].mean()) == pytest.approx(0.5, abs=0.01)
    assert float(ratio[:, :12].min()) > 0.9
    assert float(ratio[:, -1].max()) < 0.1


def test_masks_hide_about_the_asked_share():
    config = dataclasses.replace(STILL, num_masks=1, time_mask_share=0.4)
    hidden = (augment(clips(400, 100), config) - clips(400, 100)).abs().amax(dim=1) > 0
    assert float(hidden.float().mean()) == pytest.approx(0.2, abs=0.02)


def test_mixup_weighs_labels_by_pressure():
    power = torch.stack([torch.full((64, 10), 4.0), torch.full((64, 10), 100.0)])
    power[0, :32] = power[1, 32:] = 0.0
    mixed, targets = mixup(power, torch.eye(2), alpha=0.5, generator=generator(3))
    assert not torch.equal(targets, torch.eye(2))
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(2))
    pressure = torch.stack([mixed[:, 32:], mixed[:, :32]], dim=1).mean(dim=(2, 3)).sqrt()
    torch.testing.assert_close(pressure / pressure.sum(1, keepdim=True), targets)


def test_mixup_draws_from_the_beta_distribution():
    _, targets = mixup(torch.ones(4000, 1, 1), torch.eye(4000), alpha=0.3, generator=generator())
    share = targets.diagonal()
    assert float(share.mean()) == pytest.approx(0.5, abs=0.02)
    assert float(share.var()) == pytest.approx(0.25 / 1.6, abs=0.01)


def test_mixup_of_silence_is_finite_and_alpha_zero_is_the_identity():
    power, targets = torch.zeros(4, 8, 8), torch.eye(4)
    mixed, _ = mixup(power, targets, alpha=0.4, generator=generator())
    assert mixed.isfinite().all()
    same, same_targets = mixup(clips(4), targets, alpha=0.0, generator=generator())
    assert torch.equal(same, clips(4))
    assert torch.equal(same_targets, targets)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_cpu_generator_gives_the_same_on_a_gpu():
    on_cpu = augment(clips())
    on_gpu = augment_batch(
        clips().cuda(), USUAL, bin_centers_hz=CENTRES_HZ.cuda(), generator=generator()
    )
    torch.testing.assert_close(on_gpu.cpu(), on_cpu, rtol=1e-3, atol=1e-6)
