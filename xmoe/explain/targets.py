"""Which number is explained: a class of the answer, of the stem alone, or an expert's gate.

A target scores a trace, one number per clip, and names itself. Scores are centred over their
rivals: what raises all classes, or all experts, alike explains no choice among them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from xmoe.explain.trace import Trace


class Target(Protocol):
    """A number of the model, one per clip, with a gradient."""

    def score(self, trace: Trace) -> Tensor:
        """Return the number for each clip, [B]."""
        ...

    def describe(self, classes: Sequence[str]) -> str:
        """Return what is explained, in words."""
        ...


@dataclass(frozen=True)
class ClassTarget:
    """The mixture's logit of a class over the mean of all; one class, or one for each clip."""

    class_id: int | tuple[int, ...]

    def score(self, trace: Trace) -> Tensor:
        """Return the centred class logit of each clip, [B]."""
        return centred(trace.logits, self.class_id)

    def describe(self, classes: Sequence[str]) -> str:
        """Return what is explained, in words."""
        return f"the answer {_class_name(self.class_id, classes)!r}"


@dataclass(frozen=True)
class StemTarget:
    """The stem's own logit of a class over the mean of all."""

    class_id: int | tuple[int, ...]

    def score(self, trace: Trace) -> Tensor:
        """Return the centred class logit of each clip, [B]."""
        return centred(trace.stem.logits, self.class_id)

    def describe(self, classes: Sequence[str]) -> str:
        """Return what is explained, in words."""
        return f"the stem's own answer {_class_name(self.class_id, classes)!r}"


@dataclass(frozen=True)
class ExpertTarget:
    """The gate's logit of an expert over the mean of those that are not masked."""

    expert_id: int
    name: str

    def score(self, trace: Trace) -> Tensor:
        """Return the centred gate logit of each clip, [B]; raises ValueError where it is masked."""
        allowed = torch.isfinite(trace.gate_logits[0])
        if not bool(allowed[self.expert_id]):
            raise ValueError(f"expert {self.name} is masked: its gate is no choice")
        return trace.gate_logits[:, self.expert_id] - trace.gate_logits[:, allowed].mean(1)

    def describe(self, classes: Sequence[str]) -> str:
        """Return what is explained, in words."""
        return f"the choice of expert {self.name!r}"


def centred(logits: Tensor, class_id: int | tuple[int, ...]) -> Tensor:
    """Return logits [B] of a class, or of one class for each clip, over the mean of all classes."""
    ids = torch.as_tensor(class_id, device=logits.device).expand(len(logits))
    return logits.gather(1, ids.unsqueeze(1)).squeeze(1) - logits.mean(1)


def _class_name(class_id: int | tuple[int, ...], classes: Sequence[str]) -> str:
    if isinstance(class_id, int):
        return classes[class_id]
    return ", ".join(dict.fromkeys(classes[i] for i in class_id))
