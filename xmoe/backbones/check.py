"""A card and its files -> findings: does this network do what its card says, and what does it cost?

Each finding is a fault that users of other collections of networks met: constant or null numbers,
numbers that depend on the rest of the batch, on earlier padding or on threads, NaN on silence, a
rate or a scale that the network was not trained on.
"""

from __future__ import annotations

from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np

from xmoe.backbones.backbone import Backbone, load_backbone
from xmoe.backbones.formats import FloatArray
from xmoe.backbones.macs import count_macs
from xmoe.base.backbone import BackboneCard
from xmoe.base.errors import XmoeError

# Share of the largest number of an embedding that rounding may move.
TOLERANCE = 1e-3
# Share of the whole embedding by which two different sounds differ at least.
_LEAST_CHANGE = 1e-3
_RUNS = 5  # the fastest is taken
_SWEEP_HZ = (50.0, 6000.0)


@dataclass(frozen=True)
class Finding:
    """One check: what was ``found`` in words, and how to ``mend`` what is not ok."""

    name: str
    ok: bool
    found: str
    mend: str | None = None


@dataclass(frozen=True)
class Checked:
    """All findings on a card; costs are of one window on one thread, None where not known."""

    findings: tuple[Finding, ...]
    ms_per_window: float | None = None
    macs: int | None = None

    @property
    def ok(self) -> bool:
        return all(finding.ok for finding in self.findings)


def check_backbone(card: BackboneCard, folder: Path, *, trust: Collection[str] = ()) -> Checked:
    try:
        backbone = load_backbone(card, folder, trust=trust)
        wide = load_backbone(card, folder, trust=trust, threads=2)
        sound = make_sounds(card)
        embedded = backbone.embed(sound)
    except XmoeError as error:
        where = f"{error.where}: " if error.where else ""
        return Checked((Finding("opens", False, where + error.what, error.mend),))
    except Exception as error:  # whatever a network or its library throws is what is wrong with it
        return Checked((Finding("opens", False, f"{type(error).__name__}: {error}"),))
    others = (_finite, _different, _batch, _padding, _silence, _many_at_once, _golden)
    told = f"hashes match, {len(sound)} windows give {embedded.shape}"
    findings = (
        Finding("opens", True, told),
        *(look(backbone, sound, embedded) for look in others),
        _compare("threads", wide.embed(sound), embedded, "two threads", "use one thread"),
    )
    return Checked(findings, _measure_ms(backbone, sound[:1]), count_macs(card, folder))


def make_sounds(card: BackboneCard) -> FloatArray:
    """Windows [4, n] that differ in kind and by 60 dB: two noises, a sweep, clicks."""
    draw = np.random.default_rng(1)
    samples = card.window_samples
    clicks = np.zeros(samples)
    clicks[:: max(1, samples // 7)] = 0.9
    quiet, loud = draw.standard_normal((2, samples)) * [[1e-4], [0.1]]
    return np.stack([quiet, loud, sweep(card), clicks]).astype(np.float32)


def sweep(card: BackboneCard) -> FloatArray:
    """The window [n] whose embedding ``golden`` names: a sweep from 50 Hz to 6 kHz at most."""
    low_hz, high_hz = _SWEEP_HZ[0], min(_SWEEP_HZ[1], 0.4 * card.sample_rate_hz)
    time_s = np.arange(card.window_samples) / card.sample_rate_hz
    rise = (high_hz - low_hz) / (2 * card.window_s)
    return np.asarray(0.5 * np.sin(2 * np.pi * (low_hz + rise * time_s) * time_s), np.float32)


def _finite(_backbone: Backbone, _sound: FloatArray, embedded: FloatArray) -> Finding:
    share = float(np.isfinite(embedded).mean())
    mend = "correct scale, offset or normalise: the network gets numbers that it cannot take"
    return _judge("finite", share == 1.0, f"{share:.1%} of the numbers", mend)


def _different(_backbone: Backbone, _sound: FloatArray, embedded: FloatArray) -> Finding:
    gaps = [np.abs(one - two).max() for i, one in enumerate(embedded) for two in embedded[:i]]
    share = float(min(gaps)) / _largest(embedded)
    mend = "it gives the same for any sound: correct output, scale or level, or take another file"
    found = f"two sounds differ by {share:.2g} of the largest number"
    return _judge("different", share > _LEAST_CHANGE, found, mend)


def _batch(backbone: Backbone, sound: FloatArray, embedded: FloatArray) -> Finding:
    alone = np.concatenate([backbone.embed(row[None]) for row in sound])
    mend = "set one_by_one on the file that looks across its batch"
    return _compare("batch", alone, embedded, "alone", mend)


def _padding(backbone: Backbone, sound: FloatArray, _heard: FloatArray) -> Finding:
    least = backbone.card.least_samples if backbone.card.least_s else sound.shape[1] // 2
    short = sound[1:2, : max(1, least)]
    first = backbone.embed(short)
    backbone.embed(sound[1:2] * 4)
    mend = "the network keeps state from earlier windows: take another export of it"
    return _compare("padding", backbone.embed(short), first, "short sound after loud", mend)


def _silence(backbone: Backbone, sound: FloatArray, _heard: FloatArray) -> Finding:
    share = float(np.isfinite(backbone.embed(sound[:1] * 0)).mean())
    mend = "the network divides by the level: its windows must never be silent"
    return _judge("silence", share == 1.0, f"{share:.1%} of the numbers are finite", mend)


def _many_at_once(backbone: Backbone, sound: FloatArray, _heard: FloatArray) -> Finding:
    alone = np.concatenate([backbone.embed(row[None]) for row in sound])
    with ThreadPoolExecutor(len(sound)) as pool:
        rows = list(pool.map(lambda row: backbone.embed(row[None]), sound))
    mend = "its format's opener has to take one caller at a time"
    return _compare("callers", np.concatenate(rows), alone, "many at once", mend)


def _golden(backbone: Backbone, sound: FloatArray, embedded: FloatArray) -> Finding:
    wanted = np.array(backbone.card.golden, np.float32)
    if not len(wanted):
        return Finding("golden", True, "the card has no golden numbers: the rate is not checked")
    found = embedded[2:3, : len(wanted)]
    mend = "correct sample_rate_hz, normalise or scale: the network was trained on something else"
    return _compare("golden", found, wanted[None], "a sweep of 50 Hz to 6 kHz", mend)


def _compare(name: str, found: FloatArray, wanted: FloatArray, of: str, mend: str) -> Finding:
    away = float(np.abs(found - wanted).max()) / _largest(wanted)
    told = f"{of}: differs by {away:.2g} of the largest number"
    return _judge(name, away <= TOLERANCE, told, mend)


def _judge(name: str, ok: bool, found: str, mend: str) -> Finding:
    return Finding(name, ok, found, None if ok else mend)


def _largest(embedded: FloatArray) -> float:
    return max(float(np.abs(embedded).max()), np.finfo(np.float32).tiny.item())


def _measure_ms(backbone: Backbone, window: FloatArray) -> float:
    spent = []
    for _ in range(_RUNS):
        start = perf_counter()
        backbone.embed(window)
        spent.append(perf_counter() - start)
    return 1000 * min(spent)
