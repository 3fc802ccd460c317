"""Sound of chosen spans -> features of one expert's own front end, and from them its answer.

An expert of the kind ``kernels`` has a front end that suits its bias (its own rate, band, window
and 64 rows), random kernels and a ridge. Spans of a clip are transformed one by one, brought to one
level together, and pooled as if they followed one another: joined samples would click at the seams,
and features of each span alone would lose how loud it is compared with the others. Sound shorter
than the expert's window is padded with silence, as a segment is: features that are shares of time
then mean the same for every clip, however closely it was cut.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from xmoe.audio.resample import resample
from xmoe.base.config import KernelsSpec, ModelConfig
from xmoe.base.task import task_of
from xmoe.experts.cnn import band_rows
from xmoe.experts.head import LinearHead
from xmoe.experts.kernel_bank import KernelBank
from xmoe.experts.protocol import HearingExpert, Inputs, Payload
from xmoe.experts.sound import WHOLE, Span, cut_spans, pack_sound, unpack_sound
from xmoe.frontend.base import Frontend
from xmoe.frontend.registry import build_frontend

Floats32 = npt.NDArray[np.float32]


class KernelsEar:
    """Front end and kernels of a spec, ready to measure sound; nothing here is learned."""

    def __init__(self, spec: KernelsSpec) -> None:
        self.spec = spec
        self.frontend = build_frontend(spec.spectro)
        self.bank = KernelBank(seed=spec.seed, count=spec.kernels)

    @property
    def num_features(self) -> int:
        return self.bank.num_features(self.spec.spectro.num_bins)

    def see(
        self, samples: Floats32, sample_rate_hz: int, spans: Sequence[Span] = WHOLE
    ) -> list[Tensor]:
        """Compressed spectrograms [F, T_i] of spans (start_s, end_s) of samples [S]."""
        return self.see_pieces(cut_spans(samples, sample_rate_hz, spans), sample_rate_hz)

    def see_pieces(self, pieces: Sequence[Floats32], sample_rate_hz: int) -> list[Tensor]:
        """Compressed spectrograms [F, T_i] of the pieces [S_i] of one clip.

        Their level is that of all pieces together. Silence pads the last up to the expert's window.
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
        """Features [D] of spans of samples [S]."""
        pieces = cut_spans(samples, sample_rate_hz, spans)
        features: Floats32 = self.measure_pieces(pieces, sample_rate_hz).numpy()
        return features

    def measure_pieces(self, pieces: Sequence[Floats32], sample_rate_hz: int) -> Tensor:
        """Features [D] of the pieces [S_i] of one clip."""
        return self.bank.measure_pieces(self.see_pieces(pieces, sample_rate_hz))


def macs_per_s(spec: KernelsSpec) -> float:
    """Multiply-accumulates per second of sound, front end included."""
    ear, spectro = KernelsEar(spec), spec.spectro
    kernels = ear.bank.macs(spectro.num_bins, spectro.num_frames)
    return (ear.frontend.macs(spectro.num_frames) + kernels) / spectro.segment_s


class KernelsExpert(HearingExpert[KernelsSpec]):
    """Kernels with a head: sound of spans -> logits."""

    kind = "kernels"

    def __init__(self, spec: KernelsSpec, *, num_classes: int, exclusive: bool) -> None:
        super().__init__()
        self.spec, self.ear = spec, KernelsEar(spec)
        self.head = LinearHead(self.ear.num_features, num_classes, exclusive=exclusive)

    @classmethod
    def build(cls, spec: KernelsSpec, config: ModelConfig) -> KernelsExpert:
        exclusive = task_of(config.task).exclusive
        return cls(spec, num_classes=config.num_classes, exclusive=exclusive)

    @staticmethod
    def rows(spec: KernelsSpec, num_rows: int) -> tuple[int, int]:
        return band_rows(spec.family, num_rows)

    @staticmethod
    def pack(spec: KernelsSpec, inputs: Inputs, rows: Tensor, spans: Tensor) -> Payload:
        return pack_sound(spec.name, inputs, rows, spans)

    @property
    def frontend(self) -> Frontend:
        return self.ear.frontend

    def answer(self, payload: Payload) -> Tensor:
        rows = [self.ear.bank.measure_pieces(pieces) for pieces in self.see(payload)]
        logits: Tensor = self.head(torch.stack(rows))
        return logits

    def see(self, payload: Payload) -> list[list[Tensor]]:
        return [
            [spec.clone() for spec in self.ear.see_pieces(parts, rate_hz)]
            for parts, rate_hz in unpack_sound(payload)
        ]

    def answer_pieces(self, pieces: Sequence[Tensor]) -> Tensor:
        features = self.ear.bank.measure_pieces(pieces)
        logits: Tensor = self.head(features[None])
        return logits[0]

    def describe(self) -> str:
        spectro = self.spec.spectro
        window_ms = 1000.0 * spectro.win_length / spectro.sample_rate_hz
        return f"{spectro.frontend}, windows of {window_ms:.3g} ms, {self.ear.bank.total} kernels"
