"""Kinds of experts by name.

A new kind is one file of this folder, its record in ``base.config``, and its name here; one that
holds a mixture stands above it, in ``xmoe.mixture``. Kinds are imported on demand, so that an
expert's process loads only what its own kind needs.
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
    module, called = KINDS[name]
    kind: type[AnyExpert] = getattr(import_module(module), called)
    return kind


def build_expert(config: ModelConfig, name: str) -> AnyExpert:
    """One expert of a mixture with fresh weights; KeyError for an unknown name."""
    spec = config.spec_of(name)
    return kind_of(spec.kind).build(spec, config)


def pack_payload(spec: ExpertSpec, inputs: Inputs, rows: Tensor, spans: Tensor) -> Payload:
    """See ``Expert.pack``."""
    return kind_of(spec.kind).pack(spec, inputs, rows, spans)


def rows_of(spec: ExpertSpec, num_rows: int) -> tuple[int, int]:
    """See ``Expert.rows``."""
    return kind_of(spec.kind).rows(spec, num_rows)
