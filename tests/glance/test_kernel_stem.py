"""A stem of random kernels: its grid against a plain convolution, and kernels kept as weights."""

import pytest
import torch
from torch.nn import functional

from xmoe.glance.kernel_stem import KERNEL_SIZE, LEAST_RESPONSE, SCALES, KernelStem


def make(**changes):
    return KernelStem(**{"num_bins": 32, "num_classes": 3, "count": 12} | changes)


@pytest.mark.parametrize("frames", [1, 3, 4, 5, 7, 8, 41])
def test_the_map_is_the_root_of_dilated_convolutions_at_two_heights_of_each_cell(
    make_specs, frames
):
    stem, spec = make(), make_specs(2, frames=frames)
    mapped = stem.map_features(spec)
    assert mapped.shape == (2, 24, 8, -(-frames // 4))
    parts, first = [], 0
    for factor, dilations in SCALES:
        seen = functional.avg_pool2d(spec[:, None], factor, ceil_mode=True, count_include_pad=False)
        for dilation in dilations:
            mine = slice(first, first + 3)
            kernels = stem.kernels[mine].view(3, 1, KERNEL_SIZE, KERNEL_SIZE)
            padding = tuple(KERNEL_SIZE // 2 * step for step in dilation)
            plain = functional.conv2d(
                seen,
                kernels,
                stem.offsets[mine],
                (2 // factor, 4 // factor),
                padding=padding,
                dilation=dilation,
            )
            parts += [plain[:, :, ::2], plain[:, :, 1::2]]
            first += 3
    heights = torch.cat([torch.stack(parts[i : i + 2], 2).flatten(1, 2) for i in (0, 2, 4, 6)], 1)
    expected = heights.clamp_min(LEAST_RESPONSE).sqrt()
    torch.testing.assert_close(mapped, expected, atol=1e-5, rtol=1e-5)


def test_cells_times_their_slopes_add_up_to_the_logit(specs):
    stem = make()
    torch.nn.init.normal_(stem.head.weight, generator=torch.Generator().manual_seed(0))
    leaf = stem.map_features(specs).requires_grad_()
    output = stem.answer(leaf)
    amounts = stem.amounts(output, stem.head.weight[1].expand(len(specs), -1)).detach()
    torch.testing.assert_close(amounts.sum((1, 2)), output.logits[:, 1] - stem.head.bias[1])
    output.logits[:, 1].sum().backward()
    torch.testing.assert_close(amounts, (leaf * leaf.grad).sum(1).detach(), atol=1e-6, rtol=1e-4)


def test_gradients_reach_the_spectrogram_where_kernels_measure_nothing(make_specs):
    stem, spec = make(), torch.zeros_like(make_specs(1)).requires_grad_()
    torch.nn.init.normal_(stem.head.weight, generator=torch.Generator().manual_seed(0))
    stem(spec).logits.sum().backward()
    assert torch.isfinite(spec.grad).all()


def test_a_belief_is_raised_where_its_evidence_rises(specs):
    stem = make()
    torch.nn.init.normal_(stem.head.weight, generator=torch.Generator().manual_seed(0))
    output = stem(specs)
    belief = torch.softmax(output.logits, 1)
    steady = stem.activate(stem.answer(torch.ones_like(output.features)), belief)
    assert float(steady.abs().max()) < 1e-6
    assert stem.activate(output, belief).shape == (len(specs), 8, output.features.shape[3])


def test_silence_has_a_finite_answer_and_map():
    stem = make()
    output = stem.answer(torch.zeros(1, 24, 8, 3))
    assert torch.isfinite(output.logits).all()
    assert torch.isfinite(stem.amounts(output, stem.head.weight[:1])).all()


def test_a_seed_gives_its_kernels_which_have_no_mean_and_length_one():
    one, same, other = make(seed=1), make(seed=1), make(seed=2)
    assert torch.equal(one.kernels, same.kernels)
    assert torch.equal(one.offsets, same.offsets)
    assert not torch.allclose(one.kernels, other.kernels)
    assert float(one.kernels.mean(1).abs().max()) < 1e-6
    assert one.kernels.norm(dim=1).tolist() == pytest.approx([1.0] * 12, abs=1e-5)


def test_the_kernels_are_kept_with_the_weights(specs):
    one, other = make(seed=1), make(seed=2)
    other.load_state_dict(one.state_dict())
    assert torch.equal(one.map_features(specs), other.map_features(specs))
    assert not any(weight.requires_grad for weight in one.parameters())
