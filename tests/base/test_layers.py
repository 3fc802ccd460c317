"""Blocks keep sizes and scale, folded norms answer alike, and fast cells are a convolution."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from xmoe.base.layers import conv_block, convolve_rows, fold_norms
from xmoe.glance.stem import Stem


@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (5, 1), (5, 3)])
@pytest.mark.parametrize("dilation", [(1, 1), (2, 1)])
def test_block_without_stride_keeps_the_size(kernel, dilation):
    block = conv_block(2, 6, kernel, dilation=dilation).eval()
    assert block(torch.zeros(1, 2, 4, 7)).shape == (1, 6, 4, 7)


def test_block_is_rectified_and_normalised():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        block = conv_block(1, 4, (3, 3))
        out = block(torch.randn(8, 1, 16, 16)).detach()
    assert float(out.min()) == 0.0
    half_normal = 1 / math.sqrt(2 * math.pi)
    assert float(out.mean()) == pytest.approx(half_normal, abs=0.02)


def test_folded_stem_answers_alike_without_batch_norm():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        stem = Stem(num_bins=32, channels=8, num_classes=5)
        for _ in range(20):  # statistics and weights that are not those of a fresh norm
            stem(3 * torch.randn(4, 32, 20) + 1)
        for norm in (m for m in stem.modules() if isinstance(m, nn.BatchNorm2d)):
            nn.init.uniform_(norm.weight, 0.5, 2.0)
            nn.init.normal_(norm.bias)
        spec = torch.randn(2, 32, 20)
    stem.eval()
    before = stem(spec)
    fold_norms(stem)
    after = stem(spec)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in stem.modules())
    assert float(before.features.detach().amax()) > 1.0
    torch.testing.assert_close(after.features, before.features, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(after.logits, before.logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dilation", [(1, 1), (2, 3)])
@pytest.mark.parametrize(("stride", "heights"), [((1, 1), 1), ((2, 2), 1), ((2, 4), 3)])
def test_cells_are_those_of_a_convolution_row_after_row(dilation, stride, heights):
    generator = torch.Generator().manual_seed(0)
    specs = torch.randn(2, 13, 11, generator=generator)
    weights, biases = (torch.randn(*shape, generator=generator) for shape in ((5, 9), (5,)))
    cells = convolve_rows(specs, weights, biases, dilation=dilation, stride=stride, heights=heights)
    kernels = weights.view(5, 1, 3, 3)
    rows = math.ceil(13 / stride[0] / heights)
    tall = functional.pad(specs, (0, 0, 0, rows * heights * stride[0] - 13))
    slow = functional.conv2d(tall[:, None], kernels, biases, stride, dilation, dilation)
    assert cells.shape == (2, 5, heights, rows, math.ceil(11 / stride[1]))
    for height in range(heights):
        torch.testing.assert_close(cells[:, :, height], slow[:, :, height::heights])
