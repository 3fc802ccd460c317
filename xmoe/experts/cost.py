"""What an expert that hears sound costs on this machine, in milliseconds of one processor."""

from __future__ import annotations

import numpy as np

from xmoe.base.config import BackboneSpec, KernelsSpec
from xmoe.experts.backbone import BackboneEar
from xmoe.experts.kernels import KernelsEar
from xmoe.frontend.threads import time_ms


def measure_ms(
    spec: KernelsSpec | BackboneSpec, *, sample_rate_hz: int, duration_s: float
) -> float:
    """Return the milliseconds of one processor for a clip of ``duration_s``, the best of five.

    The clip comes at ``sample_rate_hz``. A network is loaded before it is measured.
    """
    if isinstance(spec, BackboneSpec) and spec.windows is not None:
        duration_s = min(duration_s, spec.windows * spec.card.span_s)
    count = max(round(duration_s * sample_rate_hz), 1)
    noise = np.random.default_rng(0).standard_normal(count).astype(np.float32)
    if isinstance(spec, BackboneSpec):
        network = BackboneEar(spec.card, spec.folder)
        return time_ms(lambda: network.embed(network.cut(noise, sample_rate_hz)))
    ear = KernelsEar(spec)
    return time_ms(lambda: ear.measure(noise, sample_rate_hz))
