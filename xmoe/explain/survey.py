"""A sample of clips -> how faithful each method is on each question, beside random maps.

For every clip and each of the three questions each method draws its map, and the classifier answers
as the map's first cells are filled with noise floor, or shown alone. Gains over random are paired:
same clip, same noise floor. Stability is the rank correlation of the label's map with the map of
the same clip under white noise 40 dB below it. Times are of one clip, the map alone. A question
that no clip answers, such as why these experts where their order is fixed, is left out.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor

from xmoe.audio.segment import Segment
from xmoe.audio.sound import Sound, hold_sound
from xmoe.base.progress import Progress, silent
from xmoe.explain.judge import RANDOM, judge_maps
from xmoe.explain.maps.methods import METHODS
from xmoe.explain.mask_sound import MaskableSound
from xmoe.explain.reasons import alone, routing_targets
from xmoe.explain.subject import Subject, surest_segment
from xmoe.explain.targets import ClassTarget, Target
from xmoe.features.segments import eval_segments
from xmoe.features.store import SpectrogramStore
from xmoe.frontend.measure import pad_frames
from xmoe.frontend.spec_transforms import add_noise
from xmoe.frontend.threads import one_thread
from xmoe.metrics.bootstrap import mean_interval
from xmoe.mixture.plan import Plan
from xmoe.predict.predictor import Predictor

NOISE_DB = 40.0  # below the clip: inaudible, so a stable map should not change
WATCHED = {
    "label": "calibrated probability of the answer",
    "experts": "share of the gate held by the experts asked",
    "k": "margin of the promise of K over the next best, less its price",
}
FIGURES = ("deletion", "insertion", "deletion_gain", "insertion_gain", "stability", "ms")


@dataclass
class _Row:
    """Measurements of one method on one question: one number per clip and figure."""

    figures: dict[str, list[float]] = field(default_factory=dict)
    units: list[str] = field(default_factory=list)

    def add(self, unit: str, **figures: float) -> None:
        self.units.append(unit)
        for name, value in figures.items():
            self.figures.setdefault(name, []).append(value)


@dataclass(frozen=True)
class _Segment:
    """One segment [1, F, T] and its sound, if experts need it."""

    spec: Tensor
    sound: Sound | None = None


def survey_store(
    predictor: Predictor,
    store: SpectrogramStore,
    *,
    num_clips: int,
    groups: Sequence[str] | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> dict[str, Any]:
    """The content of ``explanations.json``, measured on up to ``num_clips`` clips of a store.

    ``groups`` [n] names what belongs together: intervals resample groups. Of a clip of several
    segments the one that is surest of its answer is taken, as in ``explain_clip``.
    """
    subject = Subject.of(predictor)
    picked = np.random.default_rng(seed).permutation(len(store))[:num_clips]
    rows: dict[tuple[str, str], _Row] = {}
    with one_thread():
        for done, index in enumerate(sorted(picked.tolist()), 1):
            unit = store.clip_ids[index] if groups is None else groups[index]
            clean, noisy = _clean_and_noisy(predictor, store, index, seed + index)
            _survey_clip(subject, clean, noisy, unit, rows)
            progress("explanations", done, len(picked))
    return {
        "schema_version": 1,
        "num_clips": len(picked),
        "num_clips_of_split": len(store),
        "noise_db": NOISE_DB,
        "seed": seed,
        "questions": {
            question: {
                "watched": words,
                "methods": {
                    name: _summarise(row, seed)
                    for (asked, name), row in rows.items()
                    if asked == question
                },
            }
            for question, words in WATCHED.items()
            if any(asked == question for asked, _ in rows)
        },
    }


def _clean_and_noisy(
    predictor: Predictor, store: SpectrogramStore, clip: int, seed: int
) -> tuple[_Segment, _Segment]:
    frontend = predictor.frontend
    segments = eval_segments(store, frontend, [clip])
    specs, surest = segments.spec, surest_segment(predictor, segments.spec, segments.sound)
    spec = specs[surest : surest + 1].to(predictor.device)
    if segments.sound is not None:
        sound = segments.sound.rows(slice(surest, surest + 1))
        return _Segment(spec, sound), _add_sound_noise(predictor, sound, seed)
    noisy = add_noise(
        store.piece(store.pieces_of(clip)[surest]).unsqueeze(0),
        snr_db=torch.tensor([NOISE_DB]),
        slope=torch.zeros(1),
        bin_centers_hz=frontend.bin_centers_hz,
        generator=torch.Generator().manual_seed(seed),
    )
    compressed = frontend.compress(*pad_frames(noisy, specs.shape[2])).to(predictor.device)
    return _Segment(spec), _Segment(compressed)


def _add_sound_noise(predictor: Predictor, sound: Sound, seed: int) -> _Segment:
    samples, rate_hz = sound.read(0)
    noise = np.random.default_rng(seed).standard_normal(len(samples)).astype(np.float32)
    level = float(np.sqrt(np.mean(samples**2))) * 10.0 ** (-NOISE_DB / 20.0)
    segment = Segment(samples + np.float32(level) * noise, rate_hz, 0)
    return _Segment(predictor.measure([segment]).to(predictor.device), hold_sound([segment]))


def _plan(subject: Subject, segment: _Segment) -> tuple[Plan, Plan, Tensor, MaskableSound | None]:
    """Plan of the first round and of the last, the answer, and the sound to mask."""
    first, inputs = subject.model.prepare(segment.spec, subject.routing, sound=segment.sound)
    plan, answered = subject.answer(first, inputs)
    sound, frames = segment.sound, segment.spec.shape[2]
    masked = None if sound is None else MaskableSound.of(subject.frontend, sound, frames)
    return first, plan, answered, masked


def _survey_clip(
    subject: Subject, clean: _Segment, noisy: _Segment, unit: str, rows: dict[tuple[str, str], _Row]
) -> None:
    spec = clean.spec
    first, plan, answered, sound = _plan(subject, clean)
    _, noisy_plan, _, noisy_sound = _plan(subject, noisy)
    targets: dict[str, Target] = {
        "label": ClassTarget(int(answered[0].argmax())),
        **routing_targets(subject, first),
    }
    for question, target in targets.items():
        asks = question == "label"  # only then are experts run
        own_plan, own_sound = (plan, sound) if asks else (alone(first), None)
        maps, more = {}, {}
        for name, method in METHODS.items():
            began = time.perf_counter()
            maps[name] = method(subject.model, spec, own_plan, target, own_sound)[0]
            more[name] = {"ms": (time.perf_counter() - began) * 1e3}
            if asks:
                again = method(subject.model, noisy.spec, noisy_plan, target, noisy_sound)[0]
                more[name]["stability"] = rank_correlation(maps[name], again)
        found = judge_maps(partial(target.watch, subject), spec[0], maps, own_sound)
        chance = found[RANDOM]
        for name, verdict in found.items():
            gains = {
                "deletion_gain": chance.deletion - verdict.deletion,
                "insertion_gain": verdict.insertion - chance.insertion,
            }
            rows.setdefault((question, name), _Row()).add(
                unit,
                deletion=verdict.deletion,
                insertion=verdict.insertion,
                **(gains if name != RANDOM else {}),
                **more.get(name, {}),
            )


def rank_correlation(one: Tensor, other: Tensor) -> float:
    """Spearman's correlation of the cells of two maps, -1..1; 0 where one is flat."""
    cells = [values.flatten().double().cpu().numpy() for values in (one, other)]
    flat = any(np.ptp(values) == 0.0 for values in cells)  # scipy would warn, and give NaN
    return 0.0 if flat else float(spearmanr(*cells).statistic)


def _summarise(row: _Row, seed: int) -> dict[str, Any]:
    """Means with 95 % intervals, the median time, and whether chance is beaten."""
    found: dict[str, Any] = {}
    for name in FIGURES:
        if name not in row.figures:
            continue
        values = np.array(row.figures[name])
        if name == "ms":
            found[name] = float(np.median(values))
            continue
        found[name] = float(values.mean())
        found[f"{name}_ci"] = mean_interval(values, row.units, seed=seed)
    if "deletion_gain" in found:
        intervals = found["deletion_gain_ci"], found["insertion_gain_ci"]
        found["beats_random"] = all(ci is not None and ci[0] > 0 for ci in intervals)
    return found
