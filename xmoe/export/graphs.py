"""Stem and experts as graphs in ONNX that begin at the power spectrogram of one segment.

Power itself is a Fourier transform, which numpy makes as exactly and faster than the operators of
a graph (``xmoe_lite.frontend``). A graph is of one segment, and of its number of frames. Shapes:
see the legend in ``xmoe.mixture``; G numbers of evidence, N windows of the stem map.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from xmoe.base.config import RoutingConfig
from xmoe.experts.kernel_bank import thin_frames
from xmoe.experts.kernels import KernelsExpert
from xmoe.frontend.base import Frontend
from xmoe.mixture.moe import MoE

OPSET = 17


class GlanceGraph(nn.Module):
    """What the always-on part knows of a segment."""

    def __init__(self, model: MoE, frontend: Frontend, routing: RoutingConfig) -> None:
        super().__init__()
        self.model, self.frontend, self.routing = model, frontend, routing

    def forward(self, power: Tensor, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Stem logits [1, C], evidence [1, G] and window scores [1, E, N].

        ``frames`` [1] of ``power`` [1, F, T] are sound, the others pad a shorter recording.
        """
        spec = self.frontend.compress(power, frames)
        glance = self.model.glance(spec)
        scores = self.model.rank_windows(glance, spec, self.routing)
        return glance.stem.logits, glance.evidence, scores


class KernelsGraph(nn.Module):
    """An expert on its own power spectrogram [1, F, T]: logits [1, C]."""

    def __init__(self, expert: KernelsExpert) -> None:
        super().__init__()
        self.expert = expert

    def forward(self, power: Tensor) -> Tensor:
        spec = self.expert.frontend.compress(power)
        logits: Tensor = self.expert.head(self.expert.ear.bank.pool(thin_frames(spec)))
        return logits


def to_onnx(
    graph: nn.Module, shape: Sequence[int], outputs: Sequence[str], *, frames: bool = False
) -> bytes:
    """A graph of power of a ``shape`` [F, T] as an ONNX file.

    With ``frames`` the number of frames that are sound is an input too.
    """
    power = torch.rand(1, *shape) + 1e-3
    inputs = (power, torch.tensor([shape[1]])) if frames else (power,)
    buffer: Any = io.BytesIO()  # which only the newer exporter does not take
    with warnings.catch_warnings(), torch.no_grad(), fixed_shapes():
        # Of the exporters in torch the one that needs no further package is an old one.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            graph.eval(),
            inputs,
            buffer,
            input_names=["power", "frames"][: len(inputs)],
            output_names=list(outputs),
            opset_version=OPSET,
            dynamo=False,
        )
    content: bytes = buffer.getvalue()
    return content


@contextmanager
def fixed_shapes() -> Iterator[None]:
    """Let shapes be numbers while a graph is traced: it would follow them through every step."""
    tensors: Any = torch.Tensor
    read = vars(torch._C.TensorBase)["shape"].__get__
    tensors.shape = property(lambda tensor: torch.Size(map(int, read(tensor))))
    try:
        yield
    finally:
        del tensors.shape
