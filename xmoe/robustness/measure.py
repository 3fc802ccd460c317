"""Every clip of a sample through every harm -> accuracy with intervals, level by level.

The loss against the clean clip is paired: same clip, same noise at each level. Clips of one group
are resampled together. Only the first ``LONGEST_S`` seconds of long clips are used.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from xmoe.audio.clip import Clip, read_clip
from xmoe.audio.dataset import Dataset, Example
from xmoe.audio.sound import join_sounds
from xmoe.base.errors import AudioError, DatasetError
from xmoe.base.progress import Progress, silent
from xmoe.base.task import Task
from xmoe.frontend.threads import one_thread
from xmoe.metrics.bootstrap import find_interval, make_resampler
from xmoe.metrics.figures import prepare_clips
from xmoe.predict.predictor import Predictor
from xmoe.robustness.harms import Harm, Samples, list_harms

CLIPS = 200
LONGEST_S = 30.0
LEAST_GROUPS = 10
RESAMPLES = 1000
CLEAN = ("clean", 0.0)

Array = npt.NDArray[np.float64]


@dataclass
class _Answers:
    """Probabilities and K of the clips so far, under one condition."""

    probabilities: list[Array] = field(default_factory=list)
    k: list[float] = field(default_factory=list)


def measure_robustness(
    predictor: Predictor,
    dataset: Dataset,
    examples: Sequence[Example],
    *,
    clips: int = CLIPS,
    seed: int = 0,
    progress: Progress = silent,
) -> dict[str, Any]:
    """The contents of ``robustness.json``, measured on up to ``clips`` of the examples.

    Unreadable recordings are skipped and counted. Raises ``DatasetError`` if none can be read.
    """
    picked = pick_examples(examples, clips, seed)
    harms = list_harms(predictor.config.spectro)
    answers: dict[tuple[str, float], _Answers] = {}
    readable: list[Example] = []
    highest_hz = 0
    with one_thread():
        for done, example in enumerate(picked, 1):
            clip = _read(dataset, example)
            if clip is not None:
                readable.append(example)
                highest_hz = max(highest_hz, clip.sample_rate_hz)
                own = zlib.crc32(f"{seed} {example.clip_id}".encode())
                _answer_all(predictor, clip, harms, own, answers)
            progress("robustness", done, len(picked))
    if not readable:
        mend = "name another split or another folder"
        raise DatasetError("no recording can be read", where=str(dataset.root), mend=mend)
    judge = _Judge.of(predictor, dataset, readable)
    clean = answers[CLEAN]
    return {
        "schema_version": 1,
        "dataset": str(dataset.root),
        "num_clips": len(readable),
        "num_clips_of_split": len(examples),
        "num_unread": len(picked) - len(readable),
        "longest_s": LONGEST_S,
        "seed": seed,
        "clean": judge.describe(clean, clean),
        "harms": [_describe_harm(harm, answers, judge, highest_hz) for harm in harms],
    }


def pick_examples(examples: Sequence[Example], clips: int, seed: int) -> list[Example]:
    """Up to ``clips`` of the examples, each label in proportion, in their order.

    The choice depends on the seed and the clips' names alone.
    """
    order = np.random.default_rng(seed).permutation(len(examples))
    by_label: dict[tuple[str, ...], list[int]] = {}
    for index in sorted(range(len(examples)), key=lambda i: examples[i].clip_id):
        by_label.setdefault(examples[index].labels, []).append(index)
    ranked = []
    for members in by_label.values():
        members.sort(key=lambda index: order[index])
        ranked += [(place / len(members), index) for place, index in enumerate(members)]
    return [examples[index] for index in sorted(index for _, index in sorted(ranked)[:clips])]


def _read(dataset: Dataset, example: Example) -> Clip | None:
    end_s = example.start_s + LONGEST_S
    end_s = end_s if example.end_s is None else min(end_s, example.end_s)
    try:
        return read_clip(dataset.path(example), start_s=example.start_s, end_s=end_s)
    except AudioError:
        return None  # counted as unread


def _answer_all(
    predictor: Predictor,
    clip: Clip,
    harms: Sequence[Harm],
    seed: int,
    answers: dict[tuple[str, float], _Answers],
) -> None:
    """Add the answers to a clip as it is and under every harm at every level, in one pass."""
    rate_hz = clip.sample_rate_hz
    keys = [CLEAN]
    decoded = [predictor.hear(clip.samples, rate_hz)]
    for harm in harms:
        if rate_hz > harm.most_hz:
            continue
        for level in harm.levels:
            rng = np.random.default_rng([seed, zlib.crc32(harm.name.encode())])
            worse: tuple[Samples, int] = harm.apply(clip.samples, rate_hz, level, rng)
            keys.append((harm.name, level))
            decoded.append(predictor.hear(*worse))
    specs = [block for block, _ in decoded]
    sounds = [sound for _, sound in decoded if sound is not None]
    sound = join_sounds(sounds) if sounds else None
    said = predictor.answer_segments(torch.cat(specs), sound)
    sizes = [len(block) for block in specs]
    for key, logits, k in zip(keys, said.logits.split(sizes), said.k.split(sizes), strict=True):
        into = answers.setdefault(key, _Answers())
        into.probabilities.append(predictor.probabilities(logits))
        into.k.append(float(k.float().mean()))


@dataclass(frozen=True)
class _Judge:
    """The truth about the readable clips, and the same resamples [R, n] for every level."""

    task: Task
    targets: npt.NDArray[np.int64 | np.float32]
    weights: Array
    units: int

    @classmethod
    def of(cls, predictor: Predictor, dataset: Dataset, readable: Sequence[Example]) -> _Judge:
        groups = [example.group_key for example in readable]
        own = groups if len(set(groups)) >= LEAST_GROUPS else None
        draw, units = make_resampler(len(readable), own, 0)
        return cls(predictor.task, dataset.targets(readable), draw(RESAMPLES), units)

    def describe(self, answers: _Answers, clean: _Answers) -> dict[str, Any]:
        """Accuracy, the paired loss against the clean clips, and mean K."""
        right = self._right(answers)
        lost = self._right(clean) - right
        return {
            "accuracy": float(right.mean()),
            "accuracy_ci": self._interval("accuracy", right),
            "loss": float(lost.mean()),
            "loss_ci": self._interval("loss", lost),
            "mean_probability": float(np.stack(answers.probabilities).max(1).mean()),
            "mean_k": float(np.mean(answers.k)),
        }

    def _interval(self, name: str, values: Array) -> list[float] | None:
        means = self.weights @ values / self.weights.sum(1)
        return find_interval(name, float(values.mean()), means, self.units)

    def _right(self, answers: _Answers) -> Array:
        """1 for each clip [n] that is right; for several labels, the share that is."""
        return prepare_clips(np.stack(answers.probabilities), self.targets, self.task).right


def _describe_harm(
    harm: Harm, answers: dict[tuple[str, float], _Answers], judge: _Judge, highest_hz: int
) -> dict[str, Any]:
    """The curve of one harm; empty, with the reason, if some clip cannot go through it."""
    words = {"name": harm.name, "title": harm.title, "unit": harm.unit, "sense": harm.sense}
    if highest_hz > harm.most_hz:
        reason = f"recordings go up to {highest_hz} Hz, it takes at most {harm.most_hz:.0f} Hz"
        return {**words, "points": [], "absent": reason}
    clean = answers[CLEAN]
    points = [
        {"level": level, **judge.describe(answers[harm.name, level], clean)}
        for level in harm.levels
    ]
    return {**words, "points": points}
