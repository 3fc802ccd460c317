"""The classifier's answers: to segments as tensors, to a recording as a record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from xmoe.base.config import Frozen


class ExpertUse(Frozen):
    """One expert's part: mean ``weight`` over segments, ``share`` of segments that asked it."""

    name: str
    weight: float
    share: float


class Answer(Frozen):
    """The answer to one recording.

    ``label`` is the most probable class; ``labels`` all classes over one half when a recording may
    have several. ``k`` is the mean number of experts asked per segment. ``entropy`` is in nats.
    """

    label: str
    labels: tuple[str, ...]
    label_id: int
    probability: float
    probabilities: dict[str, float]
    entropy: float
    uncertain: bool
    k: float
    experts: tuple[ExpertUse, ...]
    segments: int
    degraded: bool = False
    missing_experts: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True)
class SegmentAnswers:
    """Answers to n segments: calibrated ``logits`` [n, C], ``k`` [n], ``weights`` [n, E].

    ``missing`` [n, E] marks experts that did not answer; ``saliency_share`` [n] is the share of the
    salience in the windows that were sent.
    """

    logits: Tensor
    k: Tensor
    weights: Tensor
    missing: Tensor
    saliency_share: Tensor

    def rows(self, first: int, last: int) -> SegmentAnswers:
        return SegmentAnswers(*(column[first:last] for column in vars(self).values()))


def join_answers(parts: Sequence[SegmentAnswers]) -> SegmentAnswers:
    if len(parts) == 1:
        return parts[0]
    columns = zip(*(vars(part).values() for part in parts), strict=True)
    return SegmentAnswers(*(torch.cat(column) for column in columns))
