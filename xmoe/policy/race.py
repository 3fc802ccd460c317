"""Training clips -> which front end the probe prefers, by how much, and how sure that is.

A ridge on random-kernel features answers for each fold that it was not fitted on, both copies of a
clip and all of its group held out together. Differences are paired: the standard error is that of a
clip's gain, over groups. Test and validation clips are never touched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from xmoe.audio.dataset import Dataset, Example
from xmoe.config import SpectroConfig, Task
from xmoe.policy.copies import NOISE_SNR_DB, measure_copies
from xmoe.policy.folds import Folds, make_folds, pick_clips, strata
from xmoe.policy.probe import as_rows
from xmoe.policy.records import Candidate, Race
from xmoe.policy.ridge import Floats, fit_ridge
from xmoe.progress import Progress, silent

MAX_CLIPS, MOST_DECODED_S = 400, 20_000.0
LEAST_CLIPS, LEAST_PER_CLASS = 40, 4
METHOD = "ridge on random convolution kernels, held-out accuracy on clean and noisy copies"


def choose_clips(dataset: Dataset, *, mean_duration_s: float, seed: int) -> list[Example]:
    """Return the training clips to race on: at most 400, fewer where clips are very long."""
    affordable = int(MOST_DECODED_S / max(mean_duration_s, 1e-3))
    count = min(MAX_CLIPS, max(affordable, LEAST_CLIPS))
    return pick_clips(dataset.split("train"), count, seed=seed)


def reason_to_skip(examples: Sequence[Example], num_classes: int) -> str | None:
    """Return why these training clips are too few for a race, or None."""
    if num_classes < 2:
        return "there are fewer than two classes"
    if len(examples) < LEAST_CLIPS:
        return f"there are {len(examples)} training clips, fewer than {LEAST_CLIPS}"
    smallest = int(np.unique(strata(examples), return_counts=True)[1].min())
    if smallest < LEAST_PER_CLASS:
        return f"a class has {smallest} training clips, fewer than {LEAST_PER_CLASS}"
    return None


def run_race(
    dataset: Dataset,
    examples: Sequence[Example],
    candidates: Mapping[str, SpectroConfig],
    *,
    seed: int = 0,
    progress: Progress = silent,
) -> Race | str:
    """Return the race of ``candidates``, the first of which defends its place.

    They share rate and segment. Returns a reason instead where too few clips can be read.
    """
    heard, features = measure_copies(dataset, examples, candidates, seed=seed, progress=progress)
    reason = reason_to_skip(heard, len(dataset.classes))
    if reason:
        return f"{reason}, that can be read"
    folds = make_folds(heard, seed=seed)
    rows = as_rows(dataset.targets(heard), task=dataset.task, num_classes=len(dataset.classes))
    scores = {
        name: score_copies(table, rows, folds, task=dataset.task)
        for name, table in features.items()
    }
    return judge(scores, candidates, folds)


def score_copies(
    features: npt.NDArray[np.float32], rows: Floats, folds: Folds, *, task: Task
) -> Floats:
    """Return how well each copy [n, 2] of a clip is answered when its fold is held out.

    ``features`` [n, 2, D], ``rows`` [n, C] of 0/1. The score is 1 or 0 for one label, average
    precision over the ranked labels for several.
    """
    clips, copies, _ = features.shape
    truth = np.repeat(rows, copies, axis=0)
    flat = features.reshape(clips * copies, -1).astype(np.float64)
    answers = fit_ridge(flat, truth, np.repeat(folds.ids, copies)).held_out
    if task == "single_label":
        right = answers.argmax(axis=1) == truth.argmax(axis=1)
        return np.asarray(right.reshape(clips, copies), dtype=np.float64)
    return ranking_precision(answers, truth).reshape(clips, copies)


def ranking_precision(answers: Floats, truth: Floats) -> Floats:
    """Return the average precision of the ranked labels of each row [n]; 0 where none is true."""
    order = np.argsort(-answers, axis=1, kind="stable")
    hits = np.take_along_axis(truth, order, axis=1)
    precision = hits.cumsum(axis=1) / np.arange(1, truth.shape[1] + 1)
    found: Floats = (precision * hits).sum(axis=1) / np.maximum(hits.sum(axis=1), 1.0)
    return found


def judge(
    scores: Mapping[str, Floats], candidates: Mapping[str, SpectroConfig], folds: Folds
) -> Race:
    """Return the verdict on the scores [n, 2] of each candidate, clean and noisy.

    The first stays unless another gains more than one standard error over it; of several that do,
    the most accurate wins. The runner-up is the most accurate of the rest.
    """
    champion = next(iter(candidates))
    entries = [
        _describe(name, candidates[name], scores[name], scores[champion], folds)
        for name in candidates
    ]
    better = [entry for entry in entries if entry.gain > entry.gain_se]
    winner = max(better, key=lambda entry: entry.accuracy, default=entries[0])
    rest = [entry for entry in entries if entry.name != winner.name]
    runner_up = max(rest, key=lambda entry: entry.accuracy)
    difference = scores[winner.name] - scores[runner_up.name]
    margin, margin_se = mean_and_error(difference.mean(axis=1), folds.units)
    return Race(
        method=METHOD,
        num_clips=len(folds.ids),
        num_groups=len(np.unique(folds.units)),
        folds=folds.kind,
        num_folds=folds.number,
        noisy_copies=1,
        noise_snr_db=NOISE_SNR_DB,
        candidates=tuple(entries),
        winner=winner.name,
        runner_up=runner_up.name,
        margin=margin,
        margin_se=margin_se,
    )


def _describe(
    name: str, spectro: SpectroConfig, scores: Floats, champion: Floats, folds: Folds
) -> Candidate:
    accuracy, error = mean_and_error(scores.mean(axis=1), folds.units)
    gain, gain_se = mean_and_error((scores - champion).mean(axis=1), folds.units)
    return Candidate(
        name=name,
        spectro=spectro,
        accuracy=accuracy,
        standard_error=error,
        clean_accuracy=round(float(scores[:, 0].mean()), 4),
        noisy_accuracy=round(float(scores[:, 1].mean()), 4),
        gain=gain,
        gain_se=gain_se,
    )


def mean_and_error(values: Floats, units: npt.NDArray[np.int64]) -> tuple[float, float]:
    """Return the mean of values [n] and its standard error, clustered by units [n].

    Rounded to four decimals, so that the last bits of a machine never show.
    """
    mean = float(values.mean())
    sums = np.bincount(np.unique(units, return_inverse=True)[1], weights=values - mean)
    spread = float(np.square(sums).sum()) * len(sums) / max(len(sums) - 1, 1)
    return round(mean, 4), round(float(np.sqrt(spread)) / len(values), 4)
