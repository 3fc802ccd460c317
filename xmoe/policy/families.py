"""The policy's front end -> candidates for experts that see what it does not, each with its reason.

Eight families, each with the front end that suits its bias. What a family sees it sees zoomed: all
its rows lie inside its band, its window is as long as its detail needs, and where its band ends
low, its rate is lower too. Which candidates become experts is decided by held-out answers
(``xmoe.training.stack``), not here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from xmoe.base.config import FrontendName, KernelsSpec, SpectroConfig
from xmoe.base.units import format_hz, hz_to_mel, mel_to_hz
from xmoe.experts.kernel_bank import KERNELS_PER_DILATION
from xmoe.policy.rules import PADDED_FFT, RATE_MARGIN, SHORTEST_FFT, SHORTEST_WINDOW

BASE = "base"
MANY_CLIPS = 3000
NARROW_RATIO = 2.0
PCEN_LEAST_S = 0.4
LOWEST_RATE_HZ = 1000
MOST_DIVIDED = 16
# Below the first a recorder's own noise shows, which tells recorders apart and not sounds.
SHALLOW_DB, DEEP_DB = -50.0, -80.0


@dataclass(frozen=True)
class Shape:
    """How a candidate differs from the policy's front end.

    ``band`` is in parts of the mel axis between its edges, ``window`` and ``hop`` in multiples.
    ``floor_db`` is where quiet cells end, below the clip's peak.
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
    """Return the candidates for the policy's ``spectro``, and why the others are none by name.

    The first is the policy's own front end; a shape that would be it again is left out. For many
    clips each has half the kernels, as sums over features grow with their square.
    """
    kernels = KERNELS_PER_DILATION // (2 if num_clips > MANY_CLIPS else 1)
    kept = [
        KernelsSpec(
            name=BASE,
            family="broadband",
            spectro=spectro,
            kernels=kernels,
            reason="the policy's own front end: the baseline is an expert too",
        )
    ]
    dropped: dict[str, str] = {}
    for name, shape in SHAPES.items():
        refusal = _refuse(shape, spectro)
        if refusal is not None:
            dropped[name] = refusal
            continue
        view = shape_view(shape, spectro)
        if view == spectro:
            dropped[name] = "it is the policy's own front end"
            continue
        kept.append(
            KernelsSpec(
                name=name,
                family=shape.family,
                spectro=view,
                kernels=kernels,
                reason=_describe(shape, view),
            )
        )
    return kept, dropped


def shape_view(shape: Shape, spectro: SpectroConfig) -> SpectroConfig:
    """Return the front end of a shape."""
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
    return SpectroConfig.model_validate(
        spectro.model_dump()
        | {
            "frontend": shape.frontend,
            "sample_rate_hz": rate,
            "fmin_hz": low_hz,
            "fmax_hz": min(high_hz, rate / 2),
            "n_fft": _fft(shape, window, rate, (low_hz, high_hz), spectro.num_bins),
            "win_length": window,
            "hop_length": hop,
            "floor_db": shape.floor_db,
        }
    )


def _band(shape: Shape, spectro: SpectroConfig) -> tuple[float, float]:
    """Return the edges of the band in Hz, those of the policy's where it reaches them."""
    low, high = (float(hz_to_mel(hz)) for hz in (spectro.fmin_hz, spectro.fmax_hz))
    edges = [float(mel_to_hz(low + part * (high - low))) for part in shape.band]
    first = spectro.fmin_hz if shape.band[0] == 0.0 else round(edges[0], 1)
    last = spectro.fmax_hz if shape.band[1] == 1.0 else round(edges[1], 1)
    return first, last


def _fft(shape: Shape, window: int, rate: int, band_hz: tuple[float, float], bins: int) -> int:
    """Return n_fft: the window, padded until the narrowest rows are not all read off one bin."""
    if shape.frontend == "stft":
        row_hz = (band_hz[1] - band_hz[0]) / bins
    else:
        low, high = (float(hz_to_mel(hz)) for hz in band_hz)
        row_hz = float(mel_to_hz(low + 2 * (high - low) / (bins + 1))) - band_hz[0]
    n_fft: int = max(2 ** math.ceil(math.log2(window)), SHORTEST_FFT)
    while rate / n_fft > row_hz and n_fft < PADDED_FFT * window:
        n_fft *= 2
    return n_fft


def _refuse(shape: Shape, spectro: SpectroConfig) -> str | None:
    """Return why a shape makes no sense for these recordings."""
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
