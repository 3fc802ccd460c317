"""Answers to the segments of a long recording -> windows in time, merged into events.

Events follow the rules of ``xmoe infer --hop``: ``xmoe.annotate.events``.
"""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor

from xmoe.annotate.events import MergeRules, list_rows, merge_events
from xmoe.audio.segment import share_time
from xmoe.base.config import SpectroConfig
from xmoe.base.errors import InputError
from xmoe.predict.predictor import Predictor
from xmoe.serve.router.router import Served
from xmoe.serve.schemas import EventAnswer, WindowAnswer

# Enough to identify a sample at any rate that is read.
DIGITS = 6


def choose_hop_s(
    duration_s: float, spectro: SpectroConfig, asked_s: float | None, max_windows: int
) -> float:
    """The distance between windows: as asked, else as in training, or more where windows would be
    too many.

    InputError where what is asked gives more than ``max_windows`` windows.
    """
    least_s = max(0.0, duration_s - spectro.segment_s) / max_windows
    if asked_s is None:
        return max(spectro.segment_hop_s, least_s)
    if asked_s < least_s:
        raise InputError(
            f"{asked_s:g} s makes more than {max_windows} windows of {duration_s:.1f} s",
            where="hop_s",
            mend=f"ask for at least {math.ceil(least_s * 1000) / 1000:g}, or send a shorter part",
        )
    return asked_s


def list_windows(served: Served, predictor: Predictor) -> tuple[WindowAnswer, ...]:
    """The answer to each segment; empty for a recording of one segment."""
    if len(served.segments) < 2:
        return ()
    best = read_probabilities(served, predictor).max(1)
    return tuple(
        WindowAnswer(
            start_s=round(segment.start_s, DIGITS),
            end_s=round(segment.end_s, DIGITS),
            label=predictor.config.classes[int(top)],
            probability=round(float(value), 6),
            k=int(k),
        )
        for segment, top, value, k in zip(
            served.segments, best.indices, best.values, served.answers.k, strict=True
        )
    )


def read_probabilities(served: Served, predictor: Predictor) -> Tensor:
    """The probability of each class in each segment [n, C]."""
    return predictor.task.probabilities(served.answers.logits)


def find_events(served: Served, predictor: Predictor, rules: MergeRules) -> tuple[EventAnswer, ...]:
    """The events of a recording; empty for a recording of one segment."""
    if len(served.segments) < 2:
        return ()
    cells = np.array([cell for _, cell in share_time(served.segments)])
    cells_s = cells / served.segments[0].sample_rate_hz
    p = read_probabilities(served, predictor).double().numpy()
    return tuple(
        EventAnswer(
            start_s=round(event.start_s, DIGITS),
            end_s=round(event.end_s, DIGITS),
            label=event.label,
            probability=round(event.probability, 6),
        )
        for event in merge_events(list_rows(p, cells_s, predictor.config.classes, rules), rules)
    )
