"""Kinds of experts by name.

A new kind is one file of this folder, its record in ``base.config``, and its name here.
"""

from __future__ import annotations

from torch import Tensor

from xmoe.base.config import ExpertSpec, ModelConfig
from xmoe.experts.cnn import CnnExpert
from xmoe.experts.protocol import AnyExpert, Inputs, Payload

KINDS: dict[str, type[AnyExpert]] = {kind.kind: kind for kind in (CnnExpert,)}


def build_expert(config: ModelConfig, name: str) -> AnyExpert:
    """Return one expert of a mixture with fresh weights; KeyError for a name it does not have."""
    spec = config.spec_of(name)
    return KINDS[spec.kind].build(spec, config)


def pack_payload(spec: ExpertSpec, inputs: Inputs, rows: Tensor, spans: Tensor) -> Payload:
    """Return what an expert eats of segments ``rows`` [b] on ``spans`` [b, n, 2] in seconds."""
    return KINDS[spec.kind].pack(spec, inputs, rows, spans)


def rows_of(spec: ExpertSpec, num_rows: int) -> tuple[int, int]:
    """Return the stem rows, first and after last, whose saliency ranks an expert's spans."""
    return KINDS[spec.kind].rows(spec, num_rows)
