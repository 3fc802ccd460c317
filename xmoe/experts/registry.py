"""Kinds of experts by name.

A new kind is one file of this folder, its record in ``base.config``, and its name here; one that
holds a mixture stands above it, in ``xmoe.mixture``. It is imported when one is asked for: the
process of an expert brings what its own kind needs.
"""

from __future__ import annotations

from importlib import import_module

from torch import Tensor

from xmoe.base.config import ExpertSpec, ModelConfig
from xmoe.experts.protocol import AnyExpert, Inputs, Payload

# Module and class of each kind.
KINDS: dict[str, tuple[str, str]] = {
    "cnn": ("xmoe.experts.cnn", "CnnExpert"),
    "kernels": ("xmoe.experts.kernels", "KernelsExpert"),
    "network": ("xmoe.mixture.network", "NetworkExpert"),
    "backbone": ("xmoe.experts.backbone", "BackboneExpert"),
}


def kind_of(name: str) -> type[AnyExpert]:
    """Return the class of a kind."""
    module, called = KINDS[name]
    kind: type[AnyExpert] = getattr(import_module(module), called)
    return kind


def build_expert(config: ModelConfig, name: str) -> AnyExpert:
    """Return one expert of a mixture with fresh weights; KeyError for a name it does not have."""
    spec = config.spec_of(name)
    return kind_of(spec.kind).build(spec, config)


def pack_payload(spec: ExpertSpec, inputs: Inputs, rows: Tensor, spans: Tensor) -> Payload:
    """Return what an expert eats of segments ``rows`` [b] on ``spans`` [b, n, 2] in seconds."""
    return kind_of(spec.kind).pack(spec, inputs, rows, spans)


def rows_of(spec: ExpertSpec, num_rows: int) -> tuple[int, int]:
    """Return the stem rows, first and after last, whose saliency ranks an expert's spans."""
    return kind_of(spec.kind).rows(spec, num_rows)
