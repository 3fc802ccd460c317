"""A stem of random kernels: its grid against a plain convolution, and kernels kept as weights."""

import pytest
import torch
from torch.nn import functional

from xmoe.glance.kernel_stem import KERNEL_SIZE, KernelStem


def make(**changes):
    return KernelStem(**{"num_bins": 32, "num_classes": 3, "count": 10} | changes)


@pytest.mark.parametrize("frames", [1, 3, 4, 5, 7, 8, 41])
def test_the_map_is_a_strided_convolution_on_cells_of_four_by_four(make_specs, frames):
    stem, spec = make(), make_specs(2, frames=frames)
    mapped = stem.map_features(spec)
    columns = -(-frames // 4)
    assert mapped.shape == (2, 10, 8, columns)
    padded = functional.pad(spec[:, None], (3, 3 + 4 * columns - frames, 3, 3))
    kernels = stem.kernels.view(10, 1, KERNEL_SIZE, KERNEL_SIZE)
    plain = torch.relu(functional.conv2d(padded, kernels, stem.offsets, stride=4))
    torch.testing.assert_close(mapped, plain, atol=1e-5, rtol=1e-5)


def test_a_seed_gives_its_kernels_which_have_no_mean_and_length_one():
    one, same, other = make(seed=1), make(seed=1), make(seed=2)
    assert torch.equal(one.kernels, same.kernels)
    assert torch.equal(one.offsets, same.offsets)
    assert not torch.allclose(one.kernels, other.kernels)
    assert float(one.kernels.mean(1).abs().max()) < 1e-6
    assert one.kernels.norm(dim=1).tolist() == pytest.approx([1.0] * 10, abs=1e-5)


def test_the_kernels_are_kept_with_the_weights(specs):
    one, other = make(seed=1), make(seed=2)
    other.load_state_dict(one.state_dict())
    assert torch.equal(one.map_features(specs), other.map_features(specs))
    assert not any(weight.requires_grad for weight in one.parameters())
