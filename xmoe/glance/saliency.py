"""Stem answer + spectrogram -> saliency map, in closed form and without a backward pass.

The map is the class activation map of the stem's head, averaged over the classes the stem believes
in, times how far each cell of the spectrogram stands out. Because the head is linear in band means
under a smooth maximum, the activation map equals gradient times (input minus its mean over time) at
the stem map exactly, times the rows of a band; for a stem of random kernels it is what each cell
adds to the answer, minus its mean over time. Nothing is approximated (class activation maps: Zhou
et al. 2016, CVPR; gradient times the rise over a reference: Shrikumar et al. 2017; the product with
the spectrogram's own contrast is ours).

Neither factor is zero anywhere. With evidence against the answer set to zero, cells that matter
came last, and deletion was worse than Grad-CAM's; with contrast set to zero, maps of fresh weights
ranked cells almost as trained ones do. A cell counts by the mean of the activation map around it:
each holds one in four of the stem's responses in either direction, so neighbours differ by chance.
The constants were chosen on synthetic clips that no test uses (docs/explanations.md).
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from xmoe.glance.kernel_stem import KernelStem
from xmoe.glance.stem import DECIMATION, Stem, StemOutput

AnyStem = Stem | KernelStem

FLOOR_SAMPLES = 9
LEAST_SHARE = 0.5
SHARPNESS = 12.0


def activation_map(stem: AnyStem, output: StemOutput, belief: Tensor) -> Tensor:
    """The class activation map [B, R, W], signed, of a belief [B, C].

    Features count by their rise over their own mean in time, and weights are centred over classes:
    what is there all the time, or raises all logits alike, is not evidence.
    """
    return stem.activate(output, belief)


def contrast(spec: Tensor) -> Tensor:
    """How far each cell [B, F, T] stands out: the cubed rise over its floor, plus a minimum.

    The floor of a frequency is its mean over time or, if that is lower, the median of nine such
    means spread over the neighbouring half of all frequencies: a line that sounds all through a
    clip has no contrast in time, but it stands out from its neighbours. Eight frames are averaged
    first, because single cells of noise stand out most. Half of the clip's mean is added to every
    cell.
    """
    by_frequency = spec.mean(2)
    # Sorted, not median(): that has no counterpart in ONNX.
    around = by_frequency[:, _neighbours(spec.shape[1], spec.device)].sort(2).values
    around = around[..., FLOOR_SAMPLES // 2]
    floor = torch.minimum(by_frequency, around).unsqueeze(2)
    rise = F.relu(smooth_in_time(spec).sub_(floor), inplace=True)
    cubed = rise.square() * rise
    return cubed.add_(cubed.mean((1, 2), keepdim=True), alpha=LEAST_SHARE)


@lru_cache(maxsize=64)
def _neighbours(bins: int, device: torch.device) -> Tensor:
    """Indices [F, 9] of the bins that are a bin's surroundings."""
    reach = FLOOR_SAMPLES // 2
    with torch.inference_mode(False):
        near = max(1, bins // 16) * torch.arange(-reach, reach + 1)
        return (torch.arange(bins).unsqueeze(1) + near).clamp(0, bins - 1).to(device)


def evidence_weight(cam: Tensor, unit: Tensor) -> Tensor:
    """How much each cell [B, ., .] of an activation map counts: a positive, rising function.

    Evidence for the answer counts in proportion, ``unit`` [B, 1, 1] being strong; evidence against
    it counts little, and the less the stronger it is.
    """
    return F.softplus(cam * (SHARPNESS / unit))


def strength_of(cam: Tensor) -> Tensor:
    """Root mean square [B, 1, 1] of an activation map's cells [B, R, W], never zero."""
    return cam.square().mean((1, 2), keepdim=True).sqrt().clamp_min(1e-9)


def smooth_in_time(spec: Tensor) -> Tensor:
    """Means [B, F, T] over eight frames, fewer at the edges, by sums of sums: three additions."""
    frames = spec.shape[2]
    padded = F.pad(spec, (4, 3))
    two = padded[..., :-1] + padded[..., 1:]
    four = two[..., :-2] + two[..., 2:]
    eight = four[..., :-4] + four[..., 4:]
    return eight.mul_(_share_of_each(frames, spec.device))


@lru_cache(maxsize=64)
def _share_of_each(frames: int, device: torch.device) -> Tensor:
    """One over the number of frames [T] within reach of each.

    A normal tensor even if inference asks first: one made in inference mode cannot be trained with.
    """
    with torch.inference_mode(False):
        index = torch.arange(frames)
        count = (index + 3).clamp_max(frames - 1) - (index - 4).clamp_min(0) + 1
        return (1.0 / count).to(device)


def smooth_cells(cam: Tensor) -> Tensor:
    """Means [B, R, W] of an activation map over 3 by 3 cells, fewer at the edges."""
    smooth: Tensor = F.avg_pool2d(cam.unsqueeze(1), 3, 1, 1, count_include_pad=False).squeeze(1)
    return smooth


def saliency_cells(cam: Tensor, spec: Tensor) -> Tensor:
    """Saliency at the resolution of the stem map, [B, R, W]."""
    smooth = smooth_cells(cam)
    return evidence_weight(smooth, strength_of(smooth)) * pool_cells(contrast(spec), cam.shape[1:])


def pool_cells(values: Tensor, shape: torch.Size) -> Tensor:
    """Average cells [B, F, T] down to the stem map's grid [B, R, W]; the last column may be
    partial.
    """
    pooled = F.avg_pool2d(
        values.unsqueeze(1), DECIMATION, ceil_mode=True, count_include_pad=False
    ).squeeze(1)
    return pooled[:, : shape[0], : shape[1]]


def saliency_map(cam: Tensor, spec: Tensor) -> Tensor:
    """The full saliency map [B, F, T], non-negative, from a class activation map [B, R, W].

    The activation map is smoothed and interpolated bilinearly to the spectrogram's grid, as two
    small matrix products.
    """
    smooth = smooth_cells(cam)
    rows = _interpolation(cam.shape[1], cam)[:, : spec.shape[1]].T
    columns = _interpolation(cam.shape[2], cam)[:, : spec.shape[2]]
    return evidence_weight(rows @ smooth @ columns, strength_of(smooth)).mul_(contrast(spec))


def _interpolation(cells: int, like: Tensor) -> Tensor:
    """The matrix [cells, 4 * cells] of linear interpolation to four times as many cells."""
    unit = torch.eye(cells, device=like.device, dtype=like.dtype).unsqueeze(0)
    grown = F.interpolate(unit, scale_factor=DECIMATION, mode="linear", align_corners=False)
    return grown.squeeze(0)
