"""Random-kernel features: shapes, determinism, what they are blind to and what they see."""

import pytest
import torch

from xmoe.experts.kernel_bank import DILATIONS, MAX_FRAMES, NUM_BANDS, RAMP, KernelBank


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def bank():
    return KernelBank(seed=0, count=8)


def num_features(bins, count):
    return 3 * bins + 2 * NUM_BANDS * len(DILATIONS) * count


@pytest.mark.parametrize(("bins", "frames"), [(64, 100), (16, 40), (64, 1), (32, 7)])
def test_shape_depends_on_rows_and_kernels_only(bank, bins, frames):
    features = bank.measure(draw(2, bins, frames))
    assert features.shape == (2, num_features(bins, 8))
    assert torch.isfinite(features).all()


def test_kernels_have_no_mean_and_unit_norm(bank):
    assert bank.weights.mean(dim=(-2, -1)).abs().max() < 1e-6
    assert bank.weights.square().sum(dim=(-2, -1)).sqrt().numpy() == pytest.approx(1.0, abs=1e-5)


def test_same_seed_same_kernels_other_seed_others():
    specs = draw(1, 32, 50)
    first, again, other = (KernelBank(seed=seed, count=4).measure(specs) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)


def test_global_random_state_is_untouched():
    before = torch.random.get_rng_state()
    KernelBank(seed=5, count=4)
    assert torch.equal(before, torch.random.get_rng_state())


def test_shares_lie_between_zero_and_one(bank):
    features = bank.measure(draw(3, 32, 60))
    step = NUM_BANDS * 8
    first_shares = features[:, 3 * 32 + step : 3 * 32 + 2 * step]
    assert (first_shares >= 0).all()
    assert (first_shares <= 1).all()


def test_a_sound_later_in_the_clip_measures_nearly_the_same(bank):
    specs = torch.full((2, 64, 200), -0.5)
    event = draw(64, 20).abs() + 1
    specs[0, :, 60:80] = event
    specs[1, :, 120:140] = event
    early, late = bank.measure(specs)
    assert torch.allclose(early, late, atol=1e-4)


def test_a_sound_at_another_pitch_measures_differently(bank):
    specs = torch.full((2, 64, 100), -0.5)
    specs[0, 10:14] = 3.0
    specs[1, 40:44] = 3.0
    low, high = bank.measure(specs)
    assert (low - high).abs().mean() > 0.1


def test_long_clips_are_averaged_until_they_fit(bank):
    specs = draw(1, 16, 2 * MAX_FRAMES)
    pairs = specs.unflatten(2, (MAX_FRAMES, 2)).mean(3)
    assert torch.allclose(bank.measure(specs), bank.measure(pairs), atol=1e-6)


@pytest.mark.parametrize(
    ("device", "frames", "sizes"),
    [("cpu", 100, [1, 1, 1]), ("meta", 100, [327, 327, 46]), ("meta", 2 * MAX_FRAMES, [16, 4])],
)
def test_a_gpu_measures_as_many_clips_at_once_as_fit(bank, monkeypatch, device, frames, sizes):
    found = []

    def measure(specs):
        found.append(len(specs))
        return torch.zeros(len(specs), 1, device=specs.device)

    monkeypatch.setattr(bank, "pool", measure)
    features = bank.measure(torch.zeros(sum(sizes), 16, frames, device=device))
    assert (found, len(features)) == (sizes, sum(sizes))


def test_every_step_stays_on_the_device_of_the_clips(bank):
    assert bank.measure(torch.zeros(3, 30, 41, device="meta")).device.type == "meta"


def test_convolution_is_the_one_of_torch(bank):
    specs = draw(2, 30, 41)
    for index, dilation in enumerate(DILATIONS):
        expected = torch.nn.functional.conv2d(
            specs[:, None],
            bank.weights[index],
            bank.biases[index],
            stride=2,
            padding=(3 * dilation[0], 3 * dilation[1]),
            dilation=dilation,
        )
        assert torch.allclose(bank._convolve(specs, index, dilation), expected, atol=1e-5)


def test_one_piece_is_the_whole_and_two_are_pooled(bank):
    left, right = draw(32, 40, seed=1), draw(32, 20, seed=2)
    assert torch.equal(bank.measure_pieces([left]), bank.measure(left[None])[0])
    both = bank.measure_pieces([left, right])
    one, other = (bank.measure(piece[None])[0] for piece in (left, right))
    assert torch.allclose(both[:32], torch.cat([left, right], 1).mean(1), atol=1e-6)
    deviation = torch.cat([left, right], 1).std(1, correction=0)
    assert torch.allclose(both[32:64], deviation, atol=1e-5)
    step = NUM_BANDS * 8
    assert torch.equal(both[64 : 96 + step], torch.maximum(one, other)[64 : 96 + step])
    shares = slice(96 + step, 96 + 2 * step)
    assert torch.allclose(both[shares], (2 * one + other)[shares] / 3, atol=1e-6)


def test_a_cell_near_zero_counts_in_part():
    bank = KernelBank(count=1)
    bank.weights, bank.biases = torch.zeros_like(bank.weights), torch.zeros_like(bank.biases)
    for bias, share in ((0.0, 0.5), (RAMP / 2, 0.75), (-RAMP / 2, 0.25), (RAMP, 1.0), (-1.0, 0.0)):
        bank.biases += bias - bank.biases
        features = bank.measure(torch.zeros(1, 16, 8))[0, 3 * 16 :].view(len(DILATIONS), 2, -1)
        torch.testing.assert_close(features[:, 1], torch.full_like(features[:, 1], share))


def test_rounding_of_a_spectrogram_hardly_moves_a_share(bank):
    specs = draw(4, 64, 100)
    near = specs * (1 + 1e-6)
    assert (bank.measure(near) - bank.measure(specs)).abs().max() < 2e-5


def test_pieces_have_gradients(bank):
    pieces = [draw(16, 40), draw(16, 25, seed=1)]
    for some in (pieces, pieces[:1]):
        leaves = [piece.clone().requires_grad_() for piece in some]
        bank.measure_pieces(leaves).sum().backward()
        assert all(leaf.grad.abs().sum() > 0 for leaf in leaves)


def test_macs_count_every_cell_of_every_kernel(bank):
    assert bank.macs(64, 100) == 32 * 50 * 49 * 8 * len(DILATIONS)
    assert bank.num_features(64) == num_features(64, 8)
