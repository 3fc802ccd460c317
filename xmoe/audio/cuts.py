"""The annotations of a recording -> where to cut clips of one length: of events, of background.

An event lies anywhere in its clip, at random, as it will in the windows of a recording that is
annotated. A clip holds one label, so it is moved away from events of other labels; where that is
impossible, the event is left out. Positions are whole samples.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from xmoe.audio.annotations import Annotation
from xmoe.audio.clip import AudioInfo


class Cut(NamedTuple):
    """A clip to cut: samples ``start`` to ``end``, and its label."""

    start: int
    end: int
    label: str


def suggest_clip_s(annotations: Sequence[Annotation]) -> float:
    """A clip length that nine of ten events fit into: 0.5 to 10 s, in tenths."""
    lengths = [one.end_s - one.start_s for one in annotations]
    wanted = float(np.quantile(lengths, 0.9)) if lengths else 1.0
    return min(10.0, max(0.5, math.ceil(round(wanted * 10, 6)) / 10))


def cut_events(
    annotations: Sequence[Annotation], info: AudioInfo, clip_s: float, rng: np.random.Generator
) -> tuple[list[Cut], int]:
    """Clips of events, and how many events were left out because other labels sound with them.

    An event longer than a clip gives as many clips as fit into it. A recording shorter than a clip
    is one clip.
    """
    rate, length = info.sample_rate_hz, round(clip_s * info.sample_rate_hz)
    spans = [(round(one.start_s * rate), round(one.end_s * rate), one.label) for one in annotations]
    cuts: list[Cut] = []
    mixed = 0
    for start, end, label in spans:
        others = [(a, b) for a, b, name in spans if name != label]
        if end - start > length:
            pieces = _split(start, end, length)
        else:
            low, high = max(0, end - length), min(start, info.frames - length)
            pieces = [(max(0, low), max(0, high))]
        for low, high in pieces:
            room = _stay_clear(low, high, length, (start, end), others)
            if room is None:
                mixed += 1
                continue
            first = int(rng.integers(room[0], room[1] + 1))
            cuts.append(Cut(first, min(first + length, info.frames), label))
    return list(dict.fromkeys(cuts)), mixed


def _split(start: int, end: int, length: int) -> list[tuple[int, int]]:
    """Where clips within a long event start, evenly spread; each is fixed (low = high)."""
    count = (end - start) // length
    slack = (end - start) - count * length
    begins = [start + round(slack * (i + 1) / (count + 1)) + i * length for i in range(count)]
    return [(begin, begin) for begin in begins]


def _stay_clear(
    low: int, high: int, length: int, event: tuple[int, int], others: Sequence[tuple[int, int]]
) -> tuple[int, int] | None:
    """Narrow the range of starts ``low`` to ``high`` so that no other label sounds in the clip."""
    for begin, end in others:
        if end <= event[0]:
            low = max(low, end)
        elif begin >= event[1]:
            high = min(high, begin - length)
        elif begin < high + length and end > low:
            return None
    return (low, high) if low <= high else None


def list_free(annotations: Sequence[Annotation], info: AudioInfo, clip_s: float) -> list[int]:
    """Where clips of background can start: side by side, where nothing is annotated."""
    rate, length = info.sample_rate_hz, round(clip_s * info.sample_rate_hz)
    places: list[int] = []
    free_from = 0
    for one in [*annotations, Annotation(info.duration_s, info.duration_s, "")]:
        free_to = round(one.start_s * rate)
        slots = max(0, free_to - free_from) // length
        slack = free_to - free_from - slots * length
        places += [free_from + slack // 2 + i * length for i in range(slots)]
        free_from = max(free_from, round(one.end_s * rate))
    return places


def share_out(wanted: int, room: Sequence[int]) -> list[int]:
    """How many of ``wanted`` each recording gives, in proportion to its ``room``."""
    total = sum(room)
    if wanted >= total:
        return list(room)
    ends = [wanted * part / total for part in np.cumsum(room).tolist()]
    steps = [0, *(math.floor(end + 1e-9) for end in ends)]
    return [later - earlier for earlier, later in itertools.pairwise(steps)]
