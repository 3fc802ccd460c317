"""Recordings -> those that are looked at, the segments that heads are fitted on, and copies."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal

import numpy as np

from xmoe.audio.clip import Clip
from xmoe.audio.dataset import Example
from xmoe.audio.resample import resample
from xmoe.audio.segment import Grid, Samples
from xmoe.policy.copies import loudest_part, noisy_copy

CopyName = Literal["whole", "part", "noisy", "slow", "fast"]

# In tenths of the speed (Ko 2015, Interspeech): another voice, animal or engine at another pitch.
SPEEDS: dict[CopyName, int] = {"slow": 9, "fast": 11}

# Enough segments of a long recording, spread evenly.
MOST_SEGMENTS = 8
PART_SHARES = (0.125, 0.5)  # shortest and longest part of a segment


def spread(known: Sequence[Example], most: int, seed: int) -> list[Example]:
    """At most ``most`` of the clips, drawn by ``seed``, in their order."""
    if len(known) <= most:
        return list(known)
    picked = np.random.default_rng(seed).permutation(len(known))[:most]
    return [known[place] for place in np.sort(picked)]


def cut_training(clip: Clip, segment_s: float) -> list[Samples]:
    """Segments of a clip that overlap only at its end, at most eight of them."""
    grid = Grid.of(clip.sample_rate_hz, segment_s=segment_s, hop_s=segment_s)
    segments = grid.cut(clip.samples)
    count = min(len(segments), MOST_SEGMENTS)
    picked = np.linspace(0, len(segments) - 1, count).round().astype(int).tolist()
    return [segments[place].samples for place in picked]


def copy_pieces(pieces: Sequence[Samples], copy: CopyName, seed: int) -> list[Samples]:
    """Pieces as they are, parts of random lengths, the loudest, under noise, or at other speeds."""
    if copy == "whole":
        return list(pieces)
    if copy in SPEEDS:
        return [resample(samples, from_hz=SPEEDS[copy], to_hz=10) for samples in pieces]
    rng = np.random.default_rng(seed)
    if copy == "noisy":
        return [noisy_copy(samples, rng) for samples in pieces]
    least, most = np.log(PART_SHARES)
    shares = np.exp(rng.uniform(least, most, len(pieces)))
    return [
        loudest_part(samples, max(round(share * len(samples)), 1))
        for samples, share in zip(pieces, shares, strict=True)
    ]


def seed_of(example: Example) -> int:
    """A number that depends only on the id of an example."""
    return int.from_bytes(hashlib.sha256(example.clip_id.encode()).digest()[:8], "little")
