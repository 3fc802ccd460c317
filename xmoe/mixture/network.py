"""Sound of chosen spans -> the answer of a whole mixture of CNNs, as one expert among others.

What is trained by gradient beside experts in closed form is a mixture of its own: stem, gate and
experts on one map. As an expert it computes the spectrogram that it was trained on and answers with
all of its own experts: the most expensive of a run, asked where the others leave doubt.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from xmoe.audio.resample import resample
from xmoe.audio.segment import Segment
from xmoe.audio.sound import hold_sound
from xmoe.base.config import ModelConfig, NetworkSpec
from xmoe.experts.kernels import Floats32
from xmoe.experts.protocol import HearingExpert, Inputs, Payload
from xmoe.experts.sound import pack_sound, unpack_sound
from xmoe.frontend.base import Frontend
from xmoe.frontend.measure import pad_frames
from xmoe.frontend.registry import build_frontend
from xmoe.frontend.threads import time_ms
from xmoe.mixture.combine import blend
from xmoe.mixture.moe import MoE


def whole_logits(model: MoE, spec: Tensor) -> Tensor:
    """Logits [B, C] of all experts on whole spectrograms [B, F, T], weighted by the gate."""
    glance = model.glance(spec)
    return blend(glance.stem.logits, model.answer_all(glance), glance.routing.gate)


class NetworkEar:
    """The front end of a spec, which transforms pieces as training transformed segments."""

    def __init__(self, spec: NetworkSpec) -> None:
        self.num_frames = spec.spectro.num_frames
        self.frontend = build_frontend(spec.spectro)

    def see_pieces(self, pieces: Sequence[Floats32], sample_rate_hz: int) -> list[Tensor]:
        """Compressed spectrograms [F, T_i] of the pieces [S_i] of one clip.

        Their level is that of all pieces together; only padding follows the last.
        """
        to_hz = self.frontend.config.sample_rate_hz
        with torch.inference_mode():
            powers = [
                self.frontend.power(
                    torch.from_numpy(resample(part, from_hz=sample_rate_hz, to_hz=to_hz))[None]
                )
                for part in pieces
            ]
            # A piece has one frame more than its share of the segment.
            joint = torch.cat(powers, 2)[:, :, : self.num_frames + len(pieces) - 1]
            spec = self.frontend.compress(*pad_frames(joint, self.num_frames))[0]
        ends = np.cumsum([power.shape[2] for power in powers])[:-1].tolist()
        return [part.clone() for part in spec.tensor_split(ends, dim=1)]


class NetworkExpert(HearingExpert[NetworkSpec]):
    """A mixture of CNNs with its front end: sound of chosen spans -> logits [b, C].

    ``sharpness`` turns its logits, trained on smoothed labels, into probabilities.
    """

    kind = "network"
    sharpness: Tensor

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.spec, self.ear = spec, NetworkEar(spec)
        self.mixture = MoE(spec.mixture, spec.spectro)
        self.register_buffer("sharpness", torch.tensor(1.0))

    @classmethod
    def build(cls, spec: NetworkSpec, config: ModelConfig) -> NetworkExpert:
        return cls(spec)

    @staticmethod
    def rows(spec: NetworkSpec, num_rows: int) -> tuple[int, int]:
        return 0, num_rows

    @staticmethod
    def pack(spec: NetworkSpec, inputs: Inputs, rows: Tensor, spans: Tensor) -> Payload:
        return pack_sound(spec.name, inputs, rows, spans)

    @property
    def frontend(self) -> Frontend:
        return self.ear.frontend

    def answer(self, payload: Payload) -> Tensor:
        seen = [torch.cat(pieces, 1) for pieces in self.see(payload)]
        if len({spec.shape for spec in seen}) == 1:
            return self.read(torch.stack(seen))
        return torch.cat([self.read(spec[None]) for spec in seen])

    def see(self, payload: Payload) -> list[list[Tensor]]:
        return [self.ear.see_pieces(*row) for row in unpack_sound(payload)]

    def answer_pieces(self, pieces: Sequence[Tensor]) -> Tensor:
        return self.read(torch.cat(list(pieces), 1)[None])[0]

    def read(self, spec: Tensor) -> Tensor:
        """Logits [b, C] of spectrograms [b, F, T]."""
        logits = self.sharpness * whole_logits(self.mixture, spec.to(self.sharpness.device))
        return torch.log_softmax(logits, 1) if self.mixture.task.exclusive else logits

    def describe(self) -> str:
        return f"{self.spec.spectro.frontend}, a mixture of {len(self.mixture.experts)} CNNs"


def answer_segments(expert: NetworkExpert, segments: Sequence[Segment]) -> Tensor:
    """Logits [n, C] of whole segments, as they are served."""
    length_s = expert.spec.spectro.segment_s
    nothing = torch.empty(0, dtype=torch.uint8)
    sound = hold_sound(segments)
    inputs = Inputs(nothing, nothing, column_s=0.0, window_columns=1, sound=sound)
    spans = torch.tensor([[[0.0, length_s]]]).expand(len(segments), -1, -1)
    rows = torch.arange(len(segments))
    with torch.inference_mode():
        return expert.answer(expert.pack(expert.spec, inputs, rows, spans))


def measure_ms(expert: NetworkExpert, *, sample_rate_hz: int) -> float:
    """Milliseconds per segment at ``sample_rate_hz`` on one core, best of several."""
    length = max(round(expert.spec.spectro.segment_s * sample_rate_hz), 1)
    noise = np.random.default_rng(0).standard_normal(length).astype(np.float32)
    segments = [Segment(noise, sample_rate_hz, 0)]
    return time_ms(lambda: answer_segments(expert, segments))
