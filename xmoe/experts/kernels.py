"""Sound of chosen spans -> features of one expert's own front end, and from them its answer.

An expert of the kind ``kernels`` sees sound through a front end that suits its bias (its own rate,
band, window and 64 rows), measures it with random kernels and answers with a ridge. Spans of a clip
are transformed one by one, brought to one level together, and pooled as if they were one after
another: joined samples would click at the seams, and features of each span alone would not know how
loud it is beside the others. What is shorter than the expert's window is followed by silence, as a
segment is: shares of time are then of the same time for every clip, however closely it was cut.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from xmoe.audio.resample import resample
from xmoe.base.config import Frozen, SpectroConfig
from xmoe.experts.kernel_bank import KERNELS_PER_DILATION, KernelBank
from xmoe.frontend.registry import build_frontend
from xmoe.frontend.threads import one_thread

Floats32 = npt.NDArray[np.float32]
Span = tuple[float, float]

WHOLE: tuple[Span, ...] = ((0.0, float("inf")),)
_TRIALS = 5


class KernelsSpec(Frozen):
    """What makes one expert: its front end, how many kernels, and why it is there.

    ``name`` is unique in a mixture, ``family`` one of the eight biases. ``spectro.segment_s`` is
    the length of the spans that it asks for.
    """

    kind: Literal["kernels"] = "kernels"
    name: str
    family: str
    spectro: SpectroConfig
    kernels: int = KERNELS_PER_DILATION
    seed: int = 0
    reason: str = ""

    @property
    def band_hz(self) -> tuple[float, float]:
        """The band that it sees."""
        return self.spectro.fmin_hz, self.spectro.fmax_hz


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

        Their level is that of all spans together. A span is at least one sample long; silence
        follows the last until they last as long as the expert's window.
        """
        rate = self.spec.spectro.sample_rate_hz
        parts = cut_spans(samples, sample_rate_hz, spans)
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
        features: Floats32 = self.bank.measure_pieces(
            self.see(samples, sample_rate_hz, spans)
        ).numpy()
        return features


def cut_spans(samples: Floats32, sample_rate_hz: int, spans: Sequence[Span]) -> list[Floats32]:
    """Return the samples of each span (start, end in s), at least one each."""
    parts = []
    for start_s, end_s in spans:
        first = min(max(round(start_s * sample_rate_hz), 0), len(samples) - 1)
        last = len(samples) if end_s == float("inf") else round(end_s * sample_rate_hz)
        parts.append(samples[first : max(min(last, len(samples)), first + 1)])
    return parts


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
    taken = []
    with one_thread():
        for _ in range(_TRIALS + 1):
            began = time.thread_time()
            ear.measure(noise, sample_rate_hz)
            taken.append(time.thread_time() - began)
    return 1000.0 * min(taken[1:])


class KernelsExpert:
    """An ear with a head: sound of chosen spans -> logits.

    ``weights`` [D, C] and ``bias`` [C] already hold the sharpness that makes probabilities of
    scores.
    """

    def __init__(
        self, spec: KernelsSpec, weights: Tensor, bias: Tensor, *, exclusive: bool
    ) -> None:
        self.ear = KernelsEar(spec)
        if weights.shape != (self.ear.num_features, len(bias)):
            raise ValueError(
                f"a head of {tuple(weights.shape)} does not fit {self.ear.num_features} features"
            )
        self.weights, self.bias, self.exclusive = weights, bias, exclusive

    def answer(
        self, samples: Floats32, sample_rate_hz: int, spans: Sequence[Span] = WHOLE
    ) -> Tensor:
        """Return logits [C] for spans of samples [S]: log-probabilities, or log-odds of labels."""
        features = torch.from_numpy(self.ear.measure(samples, sample_rate_hz, spans))
        scores = features @ self.weights + self.bias
        return torch.log_softmax(scores, 0) if self.exclusive else scores
