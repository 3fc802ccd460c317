"""Milliseconds that were measured, kept beside the features that they were measured for.

Who becomes an expert depends on them, and no two measurements agree: a fit that is done again, or
gone on with, takes the same experts only if it reads what the first one measured. Each machine has
its own.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable
from functools import cache
from pathlib import Path

from xmoe.base.files import read_json, to_json, write_json

_CPU_FILE = Path("/proc/cpuinfo")


class CostBook:
    """Costs by what they are of, in a file that appears with the first of them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: dict[str, float] = read_json(path) if path.is_file() else {}

    def look_up(self, what: object, measure: Callable[[], float]) -> float:
        """Return what ``what`` costs on this machine, measured where that is not known."""
        key = hashlib.sha256(to_json([name_machine(), what]).encode()).hexdigest()[:24]
        if key not in self._known:
            self._known[key] = measure()
            write_json(self.path, self._known)
        return self._known[key]


@cache
def name_machine() -> str:
    """Return the processor of this machine; containers on one host share it."""
    model = platform.processor()
    if _CPU_FILE.is_file():
        lines = _CPU_FILE.read_text(encoding="utf-8", errors="replace").splitlines()
        models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        model = models[0] if models else model
    return f"{platform.machine()} {model}"
