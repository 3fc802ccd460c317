"""What the sections of ``gpu.py`` share: rows and rates, the arithmetic, synthetic clips."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.autograd import DeviceType

from xmoe.base.config import (
    EXPERT_NAMES,
    ModelConfig,
    RoutingConfig,
    RunConfig,
    SpectroConfig,
    TrainConfig,
)
from xmoe.features.store import LOG_FLOOR, SpectrogramStore
from xmoe.frontend.registry import build_frontend
from xmoe.policy.records import list_specs

CPU = torch.device("cpu")
CLASSES = tuple("abcdefgh")
Work = Callable[[], object]


@dataclass(frozen=True)
class Row:
    """One line: rates a second, and the largest difference from the CPU beside its bound."""

    what: str
    unit: str
    cpu: float | None = None
    card: float | None = None
    difference: float | None = None
    allowed: float | None = None
    note: str = ""

    @property
    def sound(self) -> bool:
        """Whether the card answers as the CPU does; NaN does not pass."""
        return self.difference is None or self.difference <= (self.allowed or 0.0)

    def cells(self) -> list[str]:
        """Return the texts of its columns."""
        ratio = self.card / self.cpu if self.card and self.cpu else None
        numbers = [f"{x:,.4g}" if x is not None else "-" for x in (self.cpu, self.card, ratio)]
        parity = "-"
        if self.difference is not None:
            sign = "<=" if self.sound else "BROKEN, over"
            parity = f"{self.difference:.1e} {sign} {self.allowed:g}"
        return [self.what, self.unit, *numbers, parity, self.note]


@dataclass(frozen=True)
class Bench:
    """The device, how large inputs are, how long to measure, and when to end."""

    device: torch.device
    card: str
    quick: bool
    round_s: float
    ends: float

    def size(self, full: int, quick: int) -> int:
        """Return a size of this run."""
        return quick if self.quick else full

    def left_s(self) -> float:
        """Return the seconds that are left."""
        return self.ends - time.perf_counter()

    def rate(self, work: Work, count: int, device: torch.device) -> float:
        """Return how many of ``count`` a second ``work`` does, the median of several rounds."""
        for _ in range(self.size(2, 1)):
            took = self._time(work, 1, device)
        calls = max(1, round(self.round_s / 5 / max(took, 1e-6)))
        rounds = self.size(5, 1) if took < self.round_s else 1
        return count / statistics.median(self._time(work, calls, device) for _ in range(rounds))

    def _time(self, work: Work, calls: int, device: torch.device) -> float:
        wait(device)
        began = time.perf_counter()
        for _ in range(calls):
            work()
        wait(device)
        return (time.perf_counter() - began) / calls


def wait(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def arithmetic(tf32: bool) -> Iterator[None]:
    """Let matrix products and convolutions of float32 round to TF32, or none of them."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def differ(one: Tensor, other: Tensor) -> float:
    """Return the largest difference; NaN where either has one."""
    return float((one.detach().cpu().double() - other.detach().cpu().double()).abs().max())


def failed(what: str, error: Exception) -> Row:
    """Return the row of what could not be run."""
    return Row(what, "-", note=f"failed: {type(error).__name__}: {str(error).strip()[:80]!r}")


def note_busy(work: Work, device: torch.device, seconds: float) -> str:
    """Return what one call gives the card, how much of ``seconds`` that fills, and its waits."""
    if device.type != "cuda":
        return ""
    kinds = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=kinds, acc_events=True) as profile:
        work()
        wait(device)
    events = profile.events()
    kernels = [event for event in events if event.device_type == DeviceType.CUDA]
    waits = sum(event.name == "cudaStreamSynchronize" for event in events)
    busy = sum(event.time_range.elapsed_us() for event in kernels) / 1e6 / seconds
    return f"{len(kernels)} kernels and copies fill {busy:.0%} of the time, {waits} waits"


def make_config(bench: Bench, name: str = "logmel") -> RunConfig:
    """Return the default settings with all eight experts; no dropout: no two devices share it."""
    spectro = SpectroConfig(frontend=name, fmin_hz=50.0)
    experts = list_specs(EXPERT_NAMES[: bench.size(8, 3)], spectro)
    return RunConfig(
        classes=CLASSES,
        spectro=spectro,
        model=ModelConfig(experts=experts, num_classes=len(CLASSES), dropout=0.0),
        train=TrainConfig(),
        routing=RoutingConfig(k_price=-1.0, window_fraction=0.25),
    )


def make_sound(count: int, samples: int) -> Tensor:
    """Return [count, samples] at 16 kHz: clip i is a tone of class i in noise, its onset random."""
    generator = torch.Generator().manual_seed(0)
    off_pitch = 1 + 0.1 * torch.rand(count, 1, generator=generator)
    pitch_hz = 200 * 1.5 ** (torch.arange(count)[:, None] % len(CLASSES)) * off_pitch
    onset = samples * 0.8 * torch.rand(count, 1, generator=generator)
    times = torch.arange(samples)
    tone = 0.1 * torch.sin(2 * math.pi * pitch_hz / 16000 * times) * (times > onset)
    return tone + 0.05 * torch.randn(count, samples, generator=generator)


def make_store(config: RunConfig, clips: int) -> SpectrogramStore:
    """Return a store in memory of clips, each a fifth longer than a segment."""
    frontend = build_frontend(config.spectro)
    power = frontend.power(make_sound(clips, round(1.2 * config.spectro.segment_samples)))
    frames = power.shape[2]
    values = power.clamp_min(LOG_FLOOR).log10().transpose(1, 2).flatten(0, 1)
    return SpectrogramStore(
        values.to(torch.float16).numpy(),
        np.arange(clips + 1) * frames,
        np.arange(clips + 1),
        np.arange(clips) % len(CLASSES),
        tuple(str(clip) for clip in range(clips)),
    )
