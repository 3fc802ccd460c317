"""Answers to the segments of a long recording -> windows in time, and windows merged to events."""

from __future__ import annotations

import math

import torch

from xmoe.config import SpectroConfig
from xmoe.errors import InputError
from xmoe.predict import Predictor
from xmoe.serve.router import Served
from xmoe.serve.schemas import EventAnswer, WindowAnswer


def choose_hop_s(
    duration_s: float, spectro: SpectroConfig, asked_s: float | None, max_windows: int
) -> float:
    """Return how far windows lie apart: as asked, else as in training, or more where that is many.

    Raises InputError where what is asked makes more than ``max_windows`` windows.
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
    """Return the answer to each segment; none for a recording of one segment."""
    logits = served.segments.logits
    if len(logits) < 2:
        return ()
    multi_label = predictor.config.model.task == "multi_label"
    p = torch.sigmoid(logits) if multi_label else torch.softmax(logits, 1)
    best = p.max(1)
    length_s = predictor.config.spectro.segment_s
    return tuple(
        WindowAnswer(
            start_s=round(start_s, 4),
            end_s=round(start_s + length_s, 4),
            label=predictor.config.classes[int(top)],
            probability=round(float(value), 6),
            k=int(k),
        )
        for start_s, top, value, k in zip(
            served.starts_s, best.indices, best.values, served.segments.k, strict=True
        )
    )


def merge_events(windows: tuple[WindowAnswer, ...]) -> tuple[EventAnswer, ...]:
    """Return runs of neighbouring windows with one label; the probability is their mean.

    Windows overlap, so an event ends in the middle of what it shares with the next.
    """
    runs: list[list[WindowAnswer]] = []
    for window in windows:
        if runs and runs[-1][-1].label == window.label:
            runs[-1].append(window)
        else:
            runs.append([window])
    events = []
    for index, run in enumerate(runs):
        start_s, end_s = run[0].start_s, run[-1].end_s
        if index > 0:
            start_s = (runs[index - 1][-1].end_s + start_s) / 2
        if index + 1 < len(runs):
            end_s = (end_s + runs[index + 1][0].start_s) / 2
        mean = sum(window.probability for window in run) / len(run)
        events.append(
            EventAnswer(
                start_s=round(start_s, 4),
                end_s=round(end_s, 4),
                label=run[0].label,
                probability=round(mean, 6),
            )
        )
    return tuple(events)
