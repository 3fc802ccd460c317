"""Recordings whose events lie in known boxes -> how well each method finds them.

*Pointing game* and *energy in box* ask whether the map lies where the event lies. Beside every
method stands what a random map scores: the share of the spectrogram that boxes cover.

Source: Zhang et al. 2018 (pointing game).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from xmoe.audio.sound import Sound
from xmoe.audio.synth_events import EventBox
from xmoe.explain.maps.methods import METHODS
from xmoe.explain.mask_sound import MaskableSound
from xmoe.explain.scales import Scales
from xmoe.explain.subject import Subject
from xmoe.explain.targets import ClassTarget
from xmoe.metrics.bootstrap import mean_interval

BATCH = 32


@dataclass(frozen=True)
class Localisation:
    """Means over clips with 95 % bootstrap intervals: ``pointing`` and ``energy`` in 0..1.

    ``area`` is the share of the spectrogram in boxes, which is what a random map scores.
    """

    method: str
    num_clips: int
    pointing: float
    pointing_ci: list[float] | None
    energy: float
    energy_ci: list[float] | None
    area: float


def box_mask(boxes: Sequence[EventBox], scales: Scales) -> Tensor:
    """[F, T], true where a cell overlaps a box in frequency and in time."""
    hz, seconds = scales.bin_edges_hz, scales.frame_edges_s
    mask = np.zeros((len(hz) - 1, len(seconds) - 1), dtype=bool)
    for box in boxes:
        rows = (hz[1:] > box.fmin_hz) & (hz[:-1] < box.fmax_hz)
        columns = (seconds[1:] > box.start_s) & (seconds[:-1] < box.end_s)
        mask |= rows[:, None] & columns
    return torch.from_numpy(mask)


def pointing_game(maps: Tensor, masks: Tensor) -> Tensor:
    """Whether the highest cell of maps [B, F, T] lies in masks [B, F, T], as [B] in 0..1.

    Where several cells are highest, it is the share of them that does, so that a flat map scores as
    a random one would.
    """
    flat = maps.flatten(1)
    top = flat == flat.amax(1, keepdim=True)
    return (top & masks.flatten(1)).sum(1) / top.sum(1)


def energy_in_box(maps: Tensor, masks: Tensor) -> Tensor:
    """The share [B] of maps [B, F, T] >= 0 within masks; of a map of zeros, the area."""
    total = maps.sum((1, 2))
    inside = (maps * masks).sum((1, 2)) / total.clamp_min(1e-12)
    return torch.where(total > 0, inside, masks.float().mean((1, 2)))


def map_batches(
    subject: Subject, specs: Tensor, class_ids: Tensor, method: str, sound: Sound | None = None
) -> Tensor:
    """Maps [n, F, T] of a method for the classes [n] of spectrograms [n, F, T].

    ``sound`` is that of the same clips, for experts on sound.
    """
    model, parts = subject.model, []
    for first in range(0, len(specs), BATCH):
        rows = slice(first, first + BATCH)
        spec, target = specs[rows], ClassTarget(tuple(class_ids[rows].tolist()))
        plan, inputs = model.prepare(
            spec, subject.routing, sound=None if sound is None else sound.rows(rows)
        )
        masked = None
        if inputs.sound is not None:
            plan, _ = subject.answer(plan, inputs)
            masked = MaskableSound.of(subject.frontend, inputs.sound, spec.shape[2])
        parts.append(METHODS[method](model, spec, plan, target, masked).cpu())
    return torch.cat(parts)


def score_maps(method: str, maps: Tensor, masks: Tensor, *, seed: int = 0) -> Localisation:
    """Pointing game and energy in box of maps [n, F, T] against masks [n, F, T]."""
    pointing = pointing_game(maps, masks).double().numpy()
    energy = energy_in_box(maps, masks).double().numpy()
    pointing_ci, energy_ci = (mean_interval(values, seed=seed) for values in (pointing, energy))
    return Localisation(
        method=method,
        num_clips=len(pointing),
        pointing=float(pointing.mean()),
        pointing_ci=pointing_ci,
        energy=float(energy.mean()),
        energy_ci=energy_ci,
        area=float(masks.float().mean()),
    )
