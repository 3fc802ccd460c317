"""Milliseconds of experts on sound: measured once, kept beside the features of the same experts.

They decide which experts are taken, and no two measurements agree: a fit that is repeated or
resumed takes the same experts only if it reads the first measurement. Each machine has its own.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np

from xmoe.base.config import BackboneSpec, KernelsSpec
from xmoe.base.files import read_json, to_json, write_json
from xmoe.experts.backbone import BackboneEar
from xmoe.experts.kernels import KernelsEar
from xmoe.frontend.threads import time_ms

_CPU_FILE = Path("/proc/cpuinfo")


class CostBook:
    """Costs by what they are of; the file appears with the first of them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: dict[str, float] = read_json(path) if path.is_file() else {}

    def look_up(self, what: object, measure: Callable[[], float]) -> float:
        """Milliseconds of ``what`` on this machine, measured where they are not known."""
        key = hashlib.sha256(to_json([name_machine(), what]).encode()).hexdigest()[:24]
        if key not in self._known:
            self._known[key] = measure()
            write_json(self.path, self._known)
        return self._known[key]


@cache
def name_machine() -> str:
    """The processor of this machine, which containers on one host share."""
    model = platform.processor()
    if _CPU_FILE.is_file():
        lines = _CPU_FILE.read_text(encoding="utf-8", errors="replace").splitlines()
        models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        model = models[0] if models else model
    return f"{platform.machine()} {model}"


def measure_ms(
    spec: KernelsSpec | BackboneSpec, *, sample_rate_hz: int, duration_s: float
) -> float:
    """Milliseconds for a clip of ``duration_s`` at ``sample_rate_hz``, best of several.

    A network is loaded before it is timed.
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
