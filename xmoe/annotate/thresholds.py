"""Held-out clips -> for each class the probability from which a segment of it is an event.

A classifier trained on clips says how sure it is of a segment, but has never been told how often a
class occurs in hours of recording. Most segments there hold no event, so a false alarm that is rare
on held-out clips becomes common. The threshold of a class is therefore the one with the best F1
over the segments of these clips, with clips of a *background* class, if the set has one, counted
``BACKGROUND_WEIGHT`` times. Classes with few clips share one threshold.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit

from xmoe.annotate.events import THRESHOLD
from xmoe.base.config import Frozen
from xmoe.base.errors import ConfigError
from xmoe.features.segments import eval_segments
from xmoe.features.store import SpectrogramStore
from xmoe.frontend.threads import one_thread
from xmoe.predict.predictor import Predictor
from xmoe.run.folder import RunFile, RunFolder

BACKGROUND_NAMES = frozenset(
    ("background", "noise", "silence", "ambient", "none", "no_event", "no_call", "nothing")
)
# Hours of recording hold mostly background, sets of clips do not.
BACKGROUND_WEIGHT = 10.0
FEWEST_CLIPS = 8
LOWEST, HIGHEST = 0.5, 0.99
MAX_CLIPS = 1000

Array = npt.NDArray[np.float64]


class ClassThreshold(Frozen):
    """The threshold of one class, its F1 on held-out clips, its number of clips, and why."""

    threshold: float
    f1: float | None
    clips: int
    reason: str


class Thresholds(Frozen):
    """The contents of ``events.json``: thresholds by class, and the classes that are not events."""

    schema_version: int = 1
    background: tuple[str, ...] = ()
    classes: dict[str, ClassThreshold]

    def values(self) -> dict[str, float]:
        return {name: one.threshold for name, one in self.classes.items()}


def background_of(classes: Sequence[str], named: Collection[str] | None = None) -> tuple[str, ...]:
    """The classes that are not events: those named, or those whose name says so.

    Raises ConfigError for a name that is not a class.
    """
    if named is None:
        return tuple(name for name in classes if name.lower() in BACKGROUND_NAMES)
    if strange := sorted(set(named) - set(classes)):
        what, mend = f"no class is named {', '.join(strange)}", f"name some of {', '.join(classes)}"
        raise ConfigError(what, where="--background", mend=mend)
    return tuple(name for name in classes if name in named)


def choose_thresholds(predictor: Predictor, store: SpectrogramStore) -> Thresholds:
    p, truth, clips = _answer_segments(predictor, store)
    return find_thresholds(
        p, truth, clips, classes=predictor.config.classes, exclusive=predictor.task.exclusive
    )


def find_thresholds(
    p: Array,
    truth: npt.NDArray[np.bool_],
    clips: npt.NDArray[np.int64],
    *,
    classes: Sequence[str],
    exclusive: bool,
) -> Thresholds:
    """The thresholds that probabilities [n, C] of segments support.

    ``truth`` [n, C] is that of their clips; class i has ``clips[i]`` of them.
    """
    background = background_of(classes)
    weights = np.ones(len(p))
    if background:
        columns = [classes.index(name) for name in background]
        weights[truth[:, columns].any(1)] = BACKGROUND_WEIGHT
    events = [i for i, name in enumerate(classes) if name not in background]
    lowest = LOWEST if exclusive else 0.05
    pooled, _ = best_threshold(
        p[:, events].ravel(), truth[:, events].ravel(), np.repeat(weights, len(events)), lowest
    )
    chosen = {}
    for i in events:
        threshold, f1 = best_threshold(p[:, i], truth[:, i], weights, lowest)
        enough = clips[i] >= FEWEST_CLIPS
        chosen[classes[i]] = ClassThreshold(
            threshold=round(threshold if enough else pooled, 4),
            f1=round(f1, 4) if enough else None,
            clips=int(clips[i]),
            reason=_say_reason(int(clips[i]), f1, background),
        )
    return Thresholds(background=background, classes=chosen)


def _say_reason(clips: int, f1: float, background: Sequence[str]) -> str:
    if clips < FEWEST_CLIPS:
        return f"only {clips} held-out clips: the threshold that is best for all classes together"
    weighed = f", {' and '.join(background)} counted {BACKGROUND_WEIGHT:g} times" * bool(background)
    return f"F1 {f1:.3f} on the segments of {clips} held-out clips of the class{weighed}"


def best_threshold(
    p: Array, truth: npt.NDArray[np.bool_], weights: Array, lowest: float
) -> tuple[float, float]:
    """The threshold with the best weighted F1 of ``p >= threshold`` [n], and that F1.

    If a range of thresholds is equally good, the middle of the range in log odds, equally far from
    the nearest miss and the nearest false alarm. 0.5 if nothing is true.
    """
    if not truth.any():
        return max(THRESHOLD, lowest), 0.0
    order = np.argsort(-p, kind="stable")
    hits = np.cumsum((truth * weights)[order])
    found = np.cumsum(weights[order])
    f1 = 2 * hits / (found + (truth * weights).sum())
    last = np.append(p[order][1:] < p[order][:-1], True)  # a threshold cannot separate equal values
    best = int(np.argmax(np.where(last, f1, -1.0)))
    upper = p[order][best]
    lower = p[order][best + 1] if best + 1 < len(p) else 0.0
    middle = expit(logit(np.clip((lower, upper), 1e-6, 1 - 1e-6)).mean())
    return float(np.clip(middle, lowest, HIGHEST)), float(f1[best])


def _answer_segments(
    predictor: Predictor, store: SpectrogramStore
) -> tuple[Array, npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
    """Probabilities [n, C] of all segments, their truth [n, C], clips by class [C]."""
    rows = np.linspace(0, len(store) - 1, min(len(store), MAX_CLIPS)).astype(int)
    classes = len(predictor.config.classes)
    hot = predictor.task.rows(store.targets[rows], classes).astype(bool)
    p, truth = [], []
    with one_thread():
        for row, of_clip in zip(rows.tolist(), hot, strict=True):
            segments = eval_segments(store, predictor.frontend, [row])
            logits = predictor.answer_segments(segments.spec, segments.sound).logits
            p.append(predictor.task.probabilities(logits.double()).numpy())
            truth.append(np.tile(of_clip, (len(logits), 1)))
    return np.concatenate(p), np.concatenate(truth), hot.sum(0)


def read_thresholds(folder: RunFolder, classes: Sequence[str]) -> Thresholds:
    """The thresholds of a run, one half for every class if the run has none."""
    if folder.file(RunFile.EVENTS).is_file():
        return folder.read_record(RunFile.EVENTS, Thresholds)
    background = background_of(classes)
    reason = f"the run has no {RunFile.EVENTS}: a class is an event if it is more likely than not"
    one = ClassThreshold(threshold=THRESHOLD, f1=None, clips=0, reason=reason)
    named = {name: one for name in classes if name not in background}
    return Thresholds(background=background, classes=named)
