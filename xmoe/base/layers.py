"""Layers that stem and experts share, and how they are folded for inference."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval


def conv_block(
    in_channels: int,
    out_channels: int,
    kernel: tuple[int, int],
    stride: tuple[int, int] = (1, 1),
    dilation: tuple[int, int] = (1, 1),
) -> nn.Sequential:
    """Convolution ("same" padding) -> batch norm -> ReLU."""
    padding = (dilation[0] * (kernel[0] - 1) // 2, dilation[1] * (kernel[1] - 1) // 2)
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, stride, padding, dilation, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


def fold_norms(module: nn.Module) -> None:
    """Fold each batch norm into the convolution before it, for inference only.

    Answers stay the same but for rounding; the module can neither be trained nor be given other
    weights.
    """
    module.eval()
    for block in list(module.modules()):
        if not isinstance(block, nn.Sequential) or len(block) < 2:
            continue
        convolution, norm = block[0], block[1]
        if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            block[0] = fuse_conv_bn_eval(convolution, norm)
            del block[1]


def convolve_rows(
    specs: Tensor,
    weights: Tensor,
    biases: Tensor,
    *,
    dilation: tuple[int, int],
    stride: tuple[int, int],
    heights: int = 1,
) -> Tensor:
    """Cells [B, K, H, ceil(F / H / stride), ceil(T / stride)] of spectrograms [B, F, T].

    ``weights`` [K, n * n] are square kernels of odd size, ``biases`` [K]. ``heights`` H
    neighbouring rows of cells belong to one row. One matrix product of the patches: ten times as
    fast as a convolution of one channel.
    """
    batch, size = len(specs), math.isqrt(weights.shape[1])
    reach = [(size - 1) // 2 * step for step in dilation]
    rows = -(-specs.shape[1] // (heights * stride[0]))
    columns = -(-specs.shape[2] // stride[1])
    below = reach[0] + rows * heights * stride[0] - specs.shape[1]
    padded = functional.pad(specs, (reach[1], reach[1], reach[0], below))
    if torch.onnx.is_in_onnx_export():  # strides have no counterpart there
        kernels = weights.unflatten(1, (1, size, size))
        cells = functional.conv2d(padded.unsqueeze(1), kernels, biases, stride, 0, dilation)
        cells = cells[:, :, : rows * heights, :columns]
        apart: Tensor = cells.unflatten(2, (rows, heights)).transpose(2, 3)
        return apart
    clip, row, column = padded.stride()
    down, across = stride[0] * row, stride[1] * column
    patches = padded.as_strided(
        (batch, size, size, heights, rows, columns),
        (clip, dilation[0] * row, dilation[1] * column, down, heights * down, across),
    ).reshape(batch, size**2, heights * rows * columns)
    product = torch.baddbmm(biases[None, :, None], weights.expand(batch, -1, -1), patches)
    return product.view(batch, -1, heights, rows, columns)
