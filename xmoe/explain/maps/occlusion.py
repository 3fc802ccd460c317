"""The slow oracle: put noise floor on one patch after another and see how far the score falls.

A patch is an eighth of the bins and a twelfth of the frames, and patches overlap by half, so that a
clip costs some 360 forward passes whatever its length; for experts on sound patches are twice as
high and as wide. There is no gradient: the fall is what the model does. A cell's value is the mean
fall over the patches that cover it, where that is positive; the plan is held fixed, as for the
other methods.

Source: Zeiler and Fergus 2014, ECCV, arXiv:1311.2901, with noise floor in the place of grey.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from xmoe.audio.segment import segment_starts
from xmoe.audio.sound import Sound
from xmoe.experts.protocol import Inputs
from xmoe.explain.faithfulness import Filling, sample_noise_floor
from xmoe.explain.mask_sound import MaskableSound
from xmoe.explain.subject import BATCH
from xmoe.explain.targets import Target
from xmoe.explain.trace import trace_plan
from xmoe.mixture.moe import MoE
from xmoe.mixture.plan import Plan

Batch = TypeVar("Batch", Plan, Inputs)

BINS_SHARE = 8
FRAMES_SHARE = 12
# An expert on sound needs new sound for each patch, which costs far more.
COARSER = 2


def patch_size(num_bins: int, num_frames: int, coarser: int = 1) -> tuple[int, int]:
    """Bins and frames of one patch, at least two of each."""
    bins, frames = num_bins // BINS_SHARE, -(-num_frames // FRAMES_SHARE)
    return max(2, coarser * bins), max(2, coarser * frames)


@torch.no_grad()
def occlusion(
    model: MoE, spec: Tensor, plan: Plan, target: Target, sound: MaskableSound | None = None
) -> Tensor:
    """How far the score of a target falls [B, F, T] where spectrograms are silenced."""
    batch, bins, frames = spec.shape

    def draw(values: Tensor) -> Tensor:
        each = (torch.Generator().manual_seed(0) for _ in range(batch))
        parts = zip(values.split(1), each, strict=True)
        return torch.cat([sample_noise_floor(part, generator=own) for part, own in parts])

    def score(own_plan: Plan, own_spec: Tensor, own_sound: Sound | None = None) -> Tensor:
        return target.score(trace_plan(model, own_spec, own_plan, sound=own_sound, gradient=False))

    filling = Filling(spec, draw, sound)
    whole = score(plan, spec, None if sound is None else sound.sound)
    masks = patch_masks(bins, frames, coarser=1 if sound is None else COARSER).to(spec.device)
    total = torch.zeros_like(spec)
    for block in masks.split(max(1, BATCH // batch)):
        rows = torch.arange(batch, device=spec.device).repeat(len(block))
        silenced = filling.fill(block.repeat_interleave(batch, 0), rows)
        fall = whole - score(repeat_rows(plan, len(block)), *silenced).view(len(block), batch)
        total += torch.einsum("nft,nb->bft", block.to(fall.dtype), fall)
    return torch.relu(total / masks.sum(0))


def patch_masks(bins: int, frames: int, coarser: int = 1) -> Tensor:
    """[n, F, T], each true in one patch; together they cover every cell."""
    tall, wide = patch_size(bins, frames, coarser)
    rows = segment_starts(bins, tall, tall // 2)
    columns = segment_starts(frames, wide, wide // 2)
    masks = torch.zeros(len(rows), len(columns), bins, frames, dtype=torch.bool)
    for row, low in enumerate(rows):
        for column, start in enumerate(columns):
            masks[row, column, low : low + tall, start : start + wide] = True
    return masks.flatten(0, 1)


def repeat_rows(batch: Batch, times: int) -> Batch:
    """A plan, or its inputs, for a batch ``times`` over, one after the other."""
    tensors: dict[str, Any] = {
        name: value.repeat(times, *[1] * (value.dim() - 1))
        for name, value in vars(batch).items()
        if isinstance(value, Tensor)
    }
    sound = getattr(batch, "sound", None)
    if sound is not None:
        tensors["sound"] = sound.repeat(times)
    return replace(batch, **tensors)
