"""The slow oracle: put noise floor on one patch after another and see how far the score falls.

A patch is an eighth of the bins and a twelfth of the frames, and patches overlap by half, so that
a clip costs some 360 forward passes whatever its length. No gradient and no look inside: what it
says is what the model does. A cell's value is the mean fall over the patches that cover it, where
that is positive; the plan is held fixed, as for the other methods.

Source: Zeiler and Fergus 2014, ECCV, arXiv:1311.2901, with noise floor in the place of grey.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from xmoe.audio.segment import segment_starts
from xmoe.experts.protocol import Inputs
from xmoe.explain.faithfulness import sample_noise_floor
from xmoe.explain.subject import BATCH
from xmoe.explain.targets import Target
from xmoe.explain.trace import trace_plan
from xmoe.mixture.moe import MoE
from xmoe.mixture.plan import Plan

Batch = TypeVar("Batch", Plan, Inputs)

BINS_SHARE = 8
FRAMES_SHARE = 12


def patch_size(num_bins: int, num_frames: int) -> tuple[int, int]:
    """Return the bins and frames of one patch, at least two of each."""
    return max(2, num_bins // BINS_SHARE), max(2, -(-num_frames // FRAMES_SHARE))


@torch.no_grad()
def occlusion(model: MoE, spec: Tensor, plan: Plan, target: Target) -> Tensor:
    """Return how far the score of a target falls [B, F, T] where spectrograms are silenced."""
    batch, bins, frames = spec.shape
    floor = torch.cat(
        [sample_noise_floor(s, generator=torch.Generator().manual_seed(0)) for s in spec.split(1)]
    )
    whole = target.score(trace_plan(model, spec, plan, gradient=False))
    masks = patch_masks(bins, frames).to(spec.device)
    total = torch.zeros_like(spec)
    for block in masks.split(max(1, BATCH // batch)):
        silenced = torch.where(block[:, None], floor, spec).flatten(0, 1)
        many = repeat_rows(plan, len(block))
        scores = target.score(trace_plan(model, silenced, many, gradient=False))
        fall = whole - scores.view(len(block), batch)
        total += torch.einsum("nft,nb->bft", block.to(fall.dtype), fall)
    return torch.relu(total / masks.sum(0))


def patch_masks(bins: int, frames: int) -> Tensor:
    """Return [n, F, T], each true in one patch; together they cover every cell."""
    tall, wide = patch_size(bins, frames)
    rows = segment_starts(bins, tall, tall // 2)
    columns = segment_starts(frames, wide, wide // 2)
    masks = torch.zeros(len(rows), len(columns), bins, frames, dtype=torch.bool)
    for row, low in enumerate(rows):
        for column, start in enumerate(columns):
            masks[row, column, low : low + tall, start : start + wide] = True
    return masks.flatten(0, 1)


def repeat_rows(batch: Batch, times: int) -> Batch:
    """Return a plan, or what it is fed from, for a batch ``times`` over, one after the other."""
    tensors: dict[str, Any] = {
        name: value.repeat(times, *[1] * (value.dim() - 1))
        for name, value in vars(batch).items()
        if isinstance(value, Tensor)
    }
    sound = getattr(batch, "sound", None)
    if sound is not None:
        tensors["sound"] = sound.repeat(times)
    return replace(batch, **tensors)
