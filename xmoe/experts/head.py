"""Features of a clip [D] -> its answer: scaled, limited, and then linear.

The head of experts that are fitted in closed form. A feature says no more beyond three deviations,
so that a sound like none in training cannot make an expert certain by a few numbers alone. Dividing
by the root of what is left of the length halves, in decibels, how much louder features of a busy
clip speak than those of a quiet one. What each is worth on held-out clips: ``benchmarks/heads.py``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

Floats32 = npt.NDArray[np.float32]

REACH = 3.0
_LEAST_LENGTH = 1e-6


@dataclass(frozen=True)
class Scaling:
    """Mean and deviation [D] of features, over the clips that a head was fitted to."""

    mean: Tensor
    deviation: Tensor

    def apply(self, features: Tensor) -> Tensor:
        """Features [b, D], limited and damped."""
        scaled = ((features - self.mean) / self.deviation).clamp(-REACH, REACH)
        length = scaled.square().sum(1, keepdim=True).sqrt()
        return scaled / length.clamp_min(_LEAST_LENGTH).sqrt()

    def apply_rows(self, features: Floats32) -> Floats32:
        scaled: Floats32 = self.apply(torch.from_numpy(features)).numpy()
        return scaled


class LinearHead(nn.Module):
    """Features [b, D] -> logits [b, C], log-probabilities or log-odds of labels.

    ``weight`` [D, C] and ``bias`` [C] include the sharpness that turns scores into probabilities.
    """

    mean: Tensor
    deviation: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(self, num_features: int, num_classes: int, *, exclusive: bool) -> None:
        super().__init__()
        self.exclusive = exclusive
        self.register_buffer("mean", torch.zeros(num_features))
        self.register_buffer("deviation", torch.ones(num_features))
        self.register_buffer("weight", torch.zeros(num_features, num_classes))
        self.register_buffer("bias", torch.zeros(num_classes))

    def fill(self, scaling: Scaling, weight: Tensor, bias: Tensor) -> None:
        for name, values in zip(
            ("mean", "deviation", "weight", "bias"),
            (scaling.mean, scaling.deviation, weight, bias),
            strict=True,
        ):
            self.get_buffer(name).copy_(values)

    def forward(self, features: Tensor) -> Tensor:
        features = features.to(self.weight.device)
        scores = Scaling(self.mean, self.deviation).apply(features) @ self.weight + self.bias
        return torch.log_softmax(scores, 1) if self.exclusive else scores
