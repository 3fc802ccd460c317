"""Sound of chosen spans -> features of one expert's own front end, and from them its answer.

An expert of the kind ``kernels`` sees sound through a front end that suits its bias (its own rate,
band, window and 64 rows), measures it with random kernels and answers with a ridge. Spans of a clip
are transformed one by one, brought to one level together, and pooled as if they were one after
another: joined samples would click at the seams, and features of each span alone would not know how
loud it is beside the others. What is shorter than the expert's window is followed by silence, as a
segment is: shares of time are then of the same time for every clip, however closely it was cut.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from xmoe.audio.resample import resample
from xmoe.base.config import KernelsSpec, ModelConfig
from xmoe.base.task import task_of
from xmoe.experts.cnn import band_rows
from xmoe.experts.kernel_bank import KernelBank
from xmoe.experts.protocol import HearingExpert, Inputs, Payload
from xmoe.frontend.base import Frontend
from xmoe.frontend.registry import build_frontend
from xmoe.frontend.threads import time_ms

Floats32 = npt.NDArray[np.float32]
Span = tuple[float, float]

WHOLE: tuple[Span, ...] = ((0.0, float("inf")),)
# Spans that meet within this are one piece: edges are floats.
_NEAR_S = 1e-3


class KernelsEar:
    """Front end and kernels of a spec, ready to measure sound; nothing here is learned."""

    def __init__(self, spec: KernelsSpec) -> None:
        self.spec = spec
        self.frontend = build_frontend(spec.spectro)
        self.bank = KernelBank(seed=spec.seed, count=spec.kernels)

    @property
    def num_features(self) -> int:
        """D: features of a clip."""
        return self.bank.num_features(self.spec.spectro.num_bins)

    def see(
        self, samples: Floats32, sample_rate_hz: int, spans: Sequence[Span] = WHOLE
    ) -> list[Tensor]:
        """Return the compressed spectrograms [F, T_i] of spans (start, end in s) of samples [S].

        A span is at least one sample long.
        """
        return self.see_pieces(cut_spans(samples, sample_rate_hz, spans), sample_rate_hz)

    def see_pieces(self, pieces: Sequence[Floats32], sample_rate_hz: int) -> list[Tensor]:
        """Return the compressed spectrograms [F, T_i] of pieces [S_i] of one clip.

        Their level is that of all pieces together. Silence follows the last until they last as
        long as the expert's window.
        """
        rate, parts = self.spec.spectro.sample_rate_hz, list(pieces)
        window = round(self.spec.spectro.segment_s * sample_rate_hz)
        parts[-1] = np.pad(parts[-1], (0, max(window - sum(map(len, parts)), 0)))
        powers = []
        with torch.inference_mode():
            for part in parts:
                own = resample(part, from_hz=sample_rate_hz, to_hz=rate)
                powers.append(self.frontend.power(torch.from_numpy(own)[None]))
            joint = self.frontend.compress(torch.cat(powers, 2))[0]
        return list(joint.split([power.shape[2] for power in powers], dim=1))

    def measure(
        self, samples: Floats32, sample_rate_hz: int, spans: Sequence[Span] = WHOLE
    ) -> Floats32:
        """Return features [D] of spans of samples [S]."""
        pieces = cut_spans(samples, sample_rate_hz, spans)
        features: Floats32 = self.measure_pieces(pieces, sample_rate_hz).numpy()
        return features

    def measure_pieces(self, pieces: Sequence[Floats32], sample_rate_hz: int) -> Tensor:
        """Return features [D] of pieces [S_i] of one clip."""
        return self.bank.measure_pieces(self.see_pieces(pieces, sample_rate_hz))


def cut_spans(samples: Floats32, sample_rate_hz: int, spans: Sequence[Span]) -> list[Floats32]:
    """Return the samples of each span (start, end in s), at least one each."""
    return [samples[a:b] for a, b in place_spans(spans, sample_rate_hz, len(samples))]


def place_spans(spans: Sequence[Span], sample_rate_hz: int, size: int) -> list[tuple[int, int]]:
    """Return the first sample of each span (start, end in s) and the one after its last.

    They lie within ``size`` samples and hold at least one.
    """
    placed = []
    for start_s, end_s in spans:
        first = min(max(round(start_s * sample_rate_hz), 0), size - 1)
        last = size if end_s == float("inf") else round(end_s * sample_rate_hz)
        placed.append((first, max(min(last, size), first + 1)))
    return placed


def macs_per_s(spec: KernelsSpec) -> float:
    """Return the multiply-accumulates that a second of sound costs, front end included."""
    ear, spectro = KernelsEar(spec), spec.spectro
    kernels = ear.bank.macs(spectro.num_bins, spectro.num_frames)
    return (ear.frontend.macs(spectro.num_frames) + kernels) / spectro.segment_s


def measure_ms(spec: KernelsSpec, *, sample_rate_hz: int, duration_s: float | None = None) -> float:
    """Return the milliseconds of one processor of this machine for a clip, the best of five.

    The clip lasts ``duration_s``, or one span of the spec, and comes at ``sample_rate_hz``.
    """
    length_s = spec.spectro.segment_s if duration_s is None else duration_s
    count = max(round(length_s * sample_rate_hz), 1)
    noise = np.random.default_rng(0).standard_normal(count).astype(np.float32)
    ear = KernelsEar(spec)
    return time_ms(lambda: ear.measure(noise, sample_rate_hz))


class KernelsExpert(HearingExpert[KernelsSpec]):
    """An ear with a head: sound of chosen spans -> logits, log-probabilities or log-odds of labels.

    ``weight`` [D, C] and ``bias`` [C] already hold the sharpness that makes probabilities of
    scores.
    """

    kind = "kernels"
    weight: Tensor
    bias: Tensor

    def __init__(self, spec: KernelsSpec, *, num_classes: int, exclusive: bool) -> None:
        super().__init__()
        self.spec, self.exclusive = spec, exclusive
        self.ear = KernelsEar(spec)
        self.register_buffer("weight", torch.zeros(self.ear.num_features, num_classes))
        self.register_buffer("bias", torch.zeros(num_classes))

    @classmethod
    def build(cls, spec: KernelsSpec, config: ModelConfig) -> KernelsExpert:
        """Return the expert of a spec that knows nothing yet."""
        exclusive = task_of(config.task).exclusive
        return cls(spec, num_classes=config.num_classes, exclusive=exclusive)

    @staticmethod
    def rows(spec: KernelsSpec, num_rows: int) -> tuple[int, int]:
        """Return the stem rows, first and after last, of this expert's family."""
        return band_rows(spec.family, num_rows)

    @staticmethod
    def pack(spec: KernelsSpec, inputs: Inputs, rows: Tensor, spans: Tensor) -> Payload:
        """Return the sound of spans, as ``pack_sound`` makes it."""
        return pack_sound(spec.name, inputs, rows, spans)

    @property
    def frontend(self) -> Frontend:
        """What it sees sound through."""
        return self.ear.frontend

    def answer(self, payload: Payload) -> Tensor:
        """Return logits [b, C] of what ``pack`` made."""
        rows = [self.ear.bank.measure_pieces(pieces) for pieces in self.see(payload)]
        logits: Tensor = self(torch.stack(rows).to(self.weight.device))
        return logits

    def see(self, payload: Payload) -> list[list[Tensor]]:
        """Return for each row of what ``pack`` made the spectrograms [F, T_i] of its pieces."""
        return [
            [spec.clone() for spec in self.ear.see_pieces(pieces, rate_hz)]
            for pieces, rate_hz in unpack_sound(payload)
        ]

    def answer_softly(self, pieces: Sequence[Tensor]) -> Tensor:
        """Return logits [C] of the spectrograms [F, T_i] of one row, with gradients to them."""
        features = self.ear.bank.measure_pieces_softly(pieces)
        logits: Tensor = self(features[None].to(self.weight.device))
        return logits[0]

    def forward(self, features: Tensor) -> Tensor:
        """Return logits [b, C] of features [b, D]."""
        scores = features @ self.weight + self.bias
        return torch.log_softmax(scores, 1) if self.exclusive else scores

    def describe(self) -> str:
        """Return its front end and how many kernels it has."""
        spectro = self.spec.spectro
        window_ms = 1000.0 * spectro.win_length / spectro.sample_rate_hz
        return f"{spectro.frontend}, windows of {window_ms:.3g} ms, {self.ear.bank.total} kernels"


def pack_sound(name: str, inputs: Inputs, rows: Tensor, spans: Tensor) -> Payload:
    """Return the sound of spans: ``samples`` int16 [b, S], and for each row its ``scale`` [b],
    ``rate_hz`` [b] and how many samples each of its ``pieces`` [b, n] has, 0 for none.

    Neighbouring spans are one piece. ValueError where there is no sound.
    """
    if inputs.sound is None:
        raise ValueError(f"expert {name} hears sound, and none was given")
    every = len(rows) == len(inputs.sound)  # else they are copied to pick them
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
    if torch.equal(pieces, sound.length.unsqueeze(1)):  # whole segments are there as they are
        samples = sound.samples[:, :longest]
    else:
        samples = torch.zeros(len(cuts), longest, dtype=torch.int16)
        for row, own in enumerate(cuts):
            joined = torch.cat([sound.samples[row, first:last] for first, last in own])
            samples[row, : len(joined)] = joined
    return {
        "samples": samples,
        "scale": sound.scale,
        "rate_hz": sound.rate_hz,
        "pieces": pieces,
    }


def unpack_sound(payload: Payload) -> Iterator[tuple[list[Floats32], int]]:
    """Yield the pieces [S_i] of each row of what ``pack_sound`` made, and their rate."""
    names = ("samples", "scale", "rate_hz", "pieces")
    for samples, scale, rate_hz, lengths in zip(*(payload[n].cpu() for n in names), strict=True):
        sizes = lengths[lengths > 0].tolist()
        floats = samples[: sum(sizes)].float() * scale
        yield [part.numpy() for part in floats.split(sizes)], int(rate_hz)


def merge_spans(spans: Sequence[Sequence[float]]) -> list[Span]:
    """Return spans in the order of time with neighbours made one."""
    merged: list[Span] = []
    for start, end in spans:
        if merged and start - merged[-1][1] < _NEAR_S:
            merged[-1] = (merged[-1][0], end)
        else:
            merged.append((start, end))
    return merged
