"""What an expert on sound is sent: int16 samples of its spans, at the recording's rate.

Resampling, windows and level are each expert's own business, and int16 is the cheapest exact form
of most recordings.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from xmoe.experts.protocol import Inputs, Payload

Floats32 = npt.NDArray[np.float32]
Span = tuple[float, float]

WHOLE: tuple[Span, ...] = ((0.0, float("inf")),)  # a recording
# Spans that meet within this are one piece: edges are floats.
_NEAR_S = 1e-3


def pack_sound(name: str, inputs: Inputs, rows: Tensor, spans: Tensor) -> Payload:
    """Sound of segments ``rows`` [b] on ``spans`` [b, n, 2] in seconds, as a payload.

    ``samples`` int16 [b, S], and for each row its ``scale`` [b], ``rate_hz`` [b] and the samples in
    each of its ``pieces`` [b, n], 0 for none. Neighbouring spans become one piece. ValueError where
    there is no sound.
    """
    if inputs.sound is None:
        raise ValueError(f"expert {name} hears sound, but none was given")
    every = len(rows) == len(inputs.sound)  # picking rows copies them
    sound = inputs.sound if every else inputs.sound.rows(rows.cpu())
    clips = zip(sound.rate_hz.tolist(), sound.length.tolist(), strict=True)
    cuts = [
        place_spans(merge_spans(own), rate, size)
        for own, (rate, size) in zip(spans.tolist(), clips, strict=True)
    ]
    pieces = torch.zeros(len(cuts), max(map(len, cuts)), dtype=torch.int64)
    for row, own in enumerate(cuts):
        pieces[row, : len(own)] = torch.tensor([last - first for first, last in own])
    longest = int(pieces.sum(1).max())
    if torch.equal(pieces, sound.length.unsqueeze(1)):  # whole segments need no copy
        samples = sound.samples[:, :longest]
    else:
        samples = torch.zeros(len(cuts), longest, dtype=torch.int16)
        for row, own in enumerate(cuts):
            joined = torch.cat([sound.samples[row, first:last] for first, last in own])
            samples[row, : len(joined)] = joined
    return {"samples": samples, "scale": sound.scale, "rate_hz": sound.rate_hz, "pieces": pieces}


def unpack_sound(payload: Payload) -> Iterator[tuple[list[Floats32], int]]:
    """Yield the pieces [S_i] of each row that ``pack_sound`` packed, and their rate in Hz."""
    names = ("samples", "scale", "rate_hz", "pieces")
    for row in zip(*(payload[name].cpu() for name in names), strict=True):
        samples, scale, rate_hz, pieces = row
        sizes = pieces[pieces > 0].tolist()
        floats = samples[: sum(sizes)].float() * scale
        yield [part.numpy() for part in floats.split(sizes)], int(rate_hz)


def cut_spans(samples: Floats32, sample_rate_hz: int, spans: Sequence[Span]) -> list[Floats32]:
    """Samples of each span (start_s, end_s), at least one each."""
    return [samples[a:b] for a, b in place_spans(spans, sample_rate_hz, len(samples))]


def place_spans(spans: Sequence[Span], sample_rate_hz: int, size: int) -> list[tuple[int, int]]:
    """First sample of each span (start_s, end_s) and the one after its last.

    They lie within ``size`` samples and hold at least one.
    """
    placed = []
    for start_s, end_s in spans:
        first = min(max(round(start_s * sample_rate_hz), 0), size - 1)
        last = size if end_s == float("inf") else round(end_s * sample_rate_hz)
        placed.append((first, max(min(last, size), first + 1)))
    return placed


def merge_spans(spans: Sequence[Sequence[float]]) -> list[Span]:
    """Join neighbours among spans in the order of time."""
    merged: list[Span] = []
    for start, end in spans:
        if merged and start - merged[-1][1] < _NEAR_S:
            merged[-1] = (merged[-1][0], end)
        else:
            merged.append((start, end))
    return merged
