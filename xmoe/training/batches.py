"""A store of spectrograms -> augmented training batches.

Order, crops and augmentation of an epoch follow from (seed, epoch) alone, so a run resumed at an
epoch's start repeats the same batches bit for bit. Several workers share one permutation: worker r
of n takes every n-th clip of each global batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from xmoe.base.config import RunConfig
from xmoe.base.task import task_of
from xmoe.features.store import SpectrogramStore
from xmoe.frontend.base import Frontend
from xmoe.frontend.spec_augment import AugmentConfig, augment_batch, mixup


@dataclass(frozen=True)
class Share:
    """Which share of every global batch this worker takes."""

    rank: int = 0
    world_size: int = 1


def epoch_generator(seed: int, epoch: int, rank: int = 0) -> torch.Generator:
    mixed = np.random.SeedSequence([seed, epoch, rank]).generate_state(2, np.uint32)
    return torch.Generator().manual_seed(int(mixed[0]) << 31 ^ int(mixed[1]))


def steps_per_epoch(num_clips: int, batch_size: int) -> int:
    """Full batches of an epoch, at least one."""
    return max(1, num_clips // batch_size)


def train_batches(
    store: SpectrogramStore,
    frontend: Frontend,
    config: RunConfig,
    *,
    epoch: int,
    share: Share | None = None,
) -> Iterator[tuple[Tensor, Tensor, torch.Generator]]:
    """Yield (spec [b, F, T], soft targets [b, C], generator) for one epoch of one worker."""
    share = share or Share()
    order = torch.randperm(len(store), generator=epoch_generator(config.train.seed, epoch, 10**6))
    generator = epoch_generator(config.train.seed, epoch, share.rank)
    size = min(config.train.batch_size, len(store))
    for step in range(steps_per_epoch(len(store), size)):
        picked = order[step * size : (step + 1) * size][share.rank :: share.world_size].tolist()
        yield *make_batch(store, frontend, config, picked, generator), generator


def make_batch(
    store: SpectrogramStore,
    frontend: Frontend,
    config: RunConfig,
    picked: list[int],
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Spec [B, F, T] and soft targets [B, C] of random crops of the picked clips."""
    num_frames = config.spectro.num_frames
    room = np.maximum(store.frames[picked] - num_frames, 0)
    draws = torch.rand(len(picked), generator=generator).numpy()
    power, valid = store.batch(picked, (draws * (room + 1)).astype(int).tolist(), num_frames)
    targets = task_of(config.model.task).soft_targets(
        store.targets[picked], config.model.num_classes, config.train.label_smoothing
    )
    if config.train.augment:
        power = augment_batch(
            power,
            AugmentConfig(),
            bin_centers_hz=frontend.bin_centers_hz.cpu(),
            generator=generator,
            valid_frames=valid,
        )
    if config.train.mixup > 0 and len(picked) > 1:
        power, targets = mixup(power, targets, alpha=config.train.mixup, generator=generator)
        valid = torch.full_like(valid, num_frames)
    spec = frontend.compress(power, valid)
    return shift_in_time(spec, valid, generator), targets


def shift_in_time(spec: Tensor, valid: Tensor, generator: torch.Generator) -> Tensor:
    """Roll each clip [B, F, T] within its own padding: a short clip may begin anywhere."""
    frames = spec.shape[2]
    room = (frames - valid).clamp_min(0)
    shift = (torch.rand(len(valid), generator=generator) * (room + 1)).long()
    index = (torch.arange(frames).unsqueeze(0) - shift.unsqueeze(1)) % frames
    return torch.gather(spec, 2, index.unsqueeze(1).expand_as(spec))
