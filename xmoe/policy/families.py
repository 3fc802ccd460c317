"""The policy's front end -> candidates for experts that see what it does not, each with its reason.

Eight families, each with the front end that suits its bias and a closer view: all rows lie inside
the family's band, the window is as long as its detail needs, and a low band has a lower sample
rate. Which candidates become experts is decided by held-out answers (``xmoe.training.stack``), not
here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from xmoe.base.config import FrontendName, KernelsSpec, SpectroConfig
from xmoe.base.units import format_hz, hz_to_mel, mel_to_hz
from xmoe.experts.kernel_bank import KERNELS_PER_DILATION
from xmoe.policy.records import PolicyOverrides
from xmoe.policy.rules import (
    NARROW_RATIO,
    PCEN_LEAST_S,
    RATE_MARGIN,
    SHORTEST_WINDOW,
    choose_fft,
    lowest_mel_row_hz,
)

BASE = "base"
MANY_CLIPS = 3000
LOWEST_RATE_HZ = 1000
MOST_DIVIDED = 16
# Below the first a recorder's own noise shows, which identifies the recorder and not the sound.
SHALLOW_DB, DEEP_DB = -50.0, -80.0


@dataclass(frozen=True)
class Shape:
    """How a candidate differs from the policy's front end.

    ``band`` is in parts of the mel axis between its edges, ``window`` and ``hop`` in multiples.
    ``floor_db``, relative to the clip's peak, is the level below which cells are cut off.
    """

    family: str
    frontend: FrontendName
    why: str
    band: tuple[float, float] = (0.0, 1.0)
    window: float = 1.0
    hop: float = 1.0
    floor_db: float = SHALLOW_DB


SHAPES: dict[str, Shape] = {
    "broadband": Shape("broadband", "logmel", "the whole band, the recorder's own noise cut off"),
    "broadband_pcen": Shape("broadband", "pcen", "steady noise and the recorder divided out"),
    "broadband_stft": Shape(
        "broadband", "stft", "equal steps in Hz, down to quiet detail", floor_db=DEEP_DB
    ),
    "low": Shape("low", "stft", "the lower half of the rows zoomed", (0.0, 0.5), 2.0),
    "low_pcen": Shape("low", "pcen", "the same without steady noise", (0.0, 0.5), 2.0),
    "mid": Shape("mid", "logmel", "the middle half of the rows zoomed", (0.25, 0.75), 1.5),
    "high": Shape("high", "logmel", "the upper half of the rows zoomed", (0.5, 1.0)),
    "high_pcen": Shape("high", "pcen", "the same without steady noise", (0.5, 1.0)),
    "high_band": Shape("high_band", "logmel", "the top quarter zoomed", (0.75, 1.0), 0.5, 0.5),
    "transient": Shape(
        "transient", "stft", "short windows: clicks and onsets", (0.0, 1.0), 0.25, 0.5, DEEP_DB
    ),
    "transient_pcen": Shape(
        "transient", "pcen", "short windows, steady noise divided out", (0.0, 1.0), 0.25, 0.5
    ),
    "harmonic": Shape("harmonic", "cqt", "equal ratios: partials keep their distances"),
    "harmonic_low": Shape("harmonic", "cqt", "partials of the lower half", (0.0, 0.5)),
    "harmonic_cwt": Shape("harmonic", "cwt", "equal ratios, each about two cycles long"),
    "fine_frequency": Shape("fine_frequency", "logmel", "long windows: tonal lines", window=4.0),
    "fine_pcen": Shape(
        "fine_frequency",
        "pcen",
        "long windows, steady noise divided out",
        window=4.0,
        floor_db=DEEP_DB,
    ),
    "fine_stft": Shape("fine_frequency", "stft", "long windows, equal steps in Hz", window=4.0),
}


def list_families(
    spectro: SpectroConfig, *, num_clips: int = 0
) -> tuple[list[KernelsSpec], dict[str, str]]:
    """The candidates for the policy's ``spectro``, and why the other shapes are not, by name.

    The first is the policy's own front end; a shape that would repeat it is dropped. For many clips
    each has half the kernels, because sums over features grow with their square.
    """
    kernels = KERNELS_PER_DILATION // (2 if num_clips > MANY_CLIPS else 1)
    make = partial(KernelsSpec, kernels=kernels)
    reason = "the policy's own front end: the baseline is an expert too"
    kept = [make(name=BASE, family="broadband", spectro=spectro, reason=reason)]
    dropped: dict[str, str] = {}
    for name, shape in SHAPES.items():
        if refusal := _refuse(shape, spectro):
            dropped[name] = refusal
            continue
        view = shape_view(shape, spectro)
        if view == spectro:
            dropped[name] = "it is the policy's own front end"
            continue
        reason = _describe(shape, view)
        kept.append(make(name=name, family=shape.family, spectro=view, reason=reason))
    return kept, dropped


def shape_view(shape: Shape, spectro: SpectroConfig) -> SpectroConfig:
    low_hz, high_hz = _band(shape, spectro)
    rate = spectro.sample_rate_hz
    divisors = range(min(rate // LOWEST_RATE_HZ, MOST_DIVIDED), 0, -1)
    fits = (n for n in divisors if rate % n == 0 and rate / n >= RATE_MARGIN * high_hz)
    divided = next(fits, 1)
    rate //= divided
    longest = round(spectro.segment_s * rate)
    window = round(shape.window * spectro.win_length / divided)
    window = max(min(window, longest), SHORTEST_WINDOW)
    hop = max(round(shape.hop * spectro.hop_length / divided), 1)
    if shape.frontend == "stft":
        row_hz = (high_hz - low_hz) / spectro.num_bins
    else:
        row_hz = lowest_mel_row_hz((low_hz, high_hz), spectro.num_bins)
    return SpectroConfig.model_validate(
        spectro.model_dump()
        | {
            "frontend": shape.frontend,
            "sample_rate_hz": rate,
            "fmin_hz": low_hz,
            "fmax_hz": min(high_hz, rate / 2),
            "n_fft": choose_fft(window, rate, row_hz),
            "win_length": window,
            "hop_length": hop,
            "floor_db": shape.floor_db,
        }
    )


def pick_wanted(candidates: Sequence[KernelsSpec], wishes: PolicyOverrides) -> list[KernelsSpec]:
    """Candidates of the families or names that the user wants; all without a wish."""
    if not isinstance(wishes.experts, tuple):
        return list(candidates)
    wanted = set(wishes.experts)
    return [spec for spec in candidates if {spec.name, spec.family} & wanted] or list(candidates)


def most_wanted(wishes: PolicyOverrides, others: int = 0) -> int | None:
    """Most experts beside ``others``; None where the user sets no limit."""
    most = [wishes.k_max] if wishes.k_max is not None else []
    if isinstance(wishes.experts, int):
        most.append(wishes.experts)
    return max(min(most) - others, 1) if most else None


def _band(shape: Shape, spectro: SpectroConfig) -> tuple[float, float]:
    """Band edges in Hz, exactly the policy's where the shape reaches them."""
    low, high = (float(hz_to_mel(hz)) for hz in (spectro.fmin_hz, spectro.fmax_hz))
    edges = [float(mel_to_hz(low + part * (high - low))) for part in shape.band]
    first = spectro.fmin_hz if shape.band[0] == 0.0 else round(edges[0], 1)
    last = spectro.fmax_hz if shape.band[1] == 1.0 else round(edges[1], 1)
    return first, last


def _refuse(shape: Shape, spectro: SpectroConfig) -> str | None:
    """Why a shape makes no sense for these recordings, or None."""
    narrow = spectro.fmax_hz < NARROW_RATIO * max(spectro.fmin_hz, 1.0)
    if narrow and (shape.band != (0.0, 1.0) or shape.frontend in ("cqt", "cwt")):
        return "the band is less than an octave"
    if shape.frontend == "pcen" and spectro.segment_s < PCEN_LEAST_S:
        return f"segments are shorter than {PCEN_LEAST_S:g} s, the running mean of PCEN"
    if shape.window * spectro.win_length > spectro.segment_samples:
        return "its window is longer than a segment"
    return None


def _describe(shape: Shape, view: SpectroConfig) -> str:
    window_ms = 1000.0 * view.win_length / view.sample_rate_hz
    band = f"{format_hz(view.fmin_hz)} to {format_hz(view.fmax_hz)}"
    return f"{shape.why}; {view.frontend}, {band}, windows of {window_ms:.3g} ms"
