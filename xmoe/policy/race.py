"""Training clips -> which front end the probe prefers, by how much, and how sure that is.

A ridge on random-kernel features answers for each fold that it was not fitted on, both copies of a
clip and all of its group held out together. Differences are paired: the standard error is that of a
clip's gain, over groups. Test and validation clips are never touched.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from xmoe.audio.dataset import Dataset, Example
from xmoe.base.config import SpectroConfig
from xmoe.base.progress import Progress, silent
from xmoe.base.task import Task, task_of
from xmoe.experts.ridge import Floats, hold_out
from xmoe.policy.copies import NOISE_SNR_DB, measure_copies
from xmoe.policy.folds import Folds, make_folds, pick_clips, strata
from xmoe.policy.records import Candidate, Race

MAX_CLIPS, MOST_DECODED_S = 400, 20_000.0
LEAST_CLIPS, LEAST_PER_CLASS = 40, 4
METHOD = "ridge on random convolution kernels, held-out accuracy on clean and noisy copies"


def choose_clips(dataset: Dataset, *, mean_duration_s: float, seed: int) -> list[Example]:
    """Return the training clips to race on: at most 400, fewer where clips are very long.

    Clips of classes with fewer than four are left out.
    """
    affordable = int(MOST_DECODED_S / max(mean_duration_s, 1e-3))
    count = min(MAX_CLIPS, max(affordable, LEAST_CLIPS))
    return pick_clips(drop_rare(dataset.split("train")), count, seed=seed)


def reason_to_skip(examples: Sequence[Example]) -> str | None:
    """Return why these training clips are too few for a race, or None."""
    kept = drop_rare(examples)
    least = f"classes with at least {LEAST_PER_CLASS} training clips"
    if len(set(strata(kept))) < 2:
        return f"there are fewer than two {least}"
    if len(kept) < LEAST_CLIPS:
        return f"{len(kept)} clips are in {least}, a race takes {LEAST_CLIPS}"
    return None


def drop_rare(examples: Sequence[Example]) -> list[Example]:
    """Return the clips of classes with at least four: of fewer, held-out answers tell nothing."""
    labels = strata(examples)
    counts = Counter(labels)
    pairs = zip(examples, labels, strict=True)
    return [example for example, label in pairs if counts[label] >= LEAST_PER_CLASS]


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
    reason = reason_to_skip(heard)
    if reason:
        return f"of the clips that can be read, {reason}"
    folds = make_folds(heard, seed=seed)
    task = task_of(dataset.task)
    rows = task.rows(dataset.targets(heard), len(dataset.classes))
    scores = {name: score_copies(table, rows, folds, task=task) for name, table in features.items()}
    return judge(scores, candidates, folds)


def score_copies(
    features: npt.NDArray[np.float32], rows: Floats, folds: Folds, *, task: Task
) -> Floats:
    """Return how well each copy [n, 2] of a clip is answered when its fold is held out.

    ``features`` [n, 2, D], ``rows`` [n, C] of 0/1. The mean over the partitions.
    """
    clips, copies, _ = features.shape
    truth = np.repeat(rows, copies, axis=0)
    flat = features.reshape(clips * copies, -1).astype(np.float64)
    answers = hold_out(flat, truth, np.repeat(folds.ids, copies, axis=1))
    scores = np.mean([score_answers(part, truth, task=task) for part in answers], axis=0)
    return np.asarray(scores.reshape(clips, copies))


def score_answers(answers: Floats, truth: Floats, *, task: Task) -> Floats:
    """Return the score [n] of answers [n, C]: 1 or 0 for one label, average precision for more."""
    if task.exclusive:
        return np.asarray(answers.argmax(axis=1) == truth.argmax(axis=1), dtype=np.float64)
    return ranking_precision(answers, truth)


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

    The first stays unless another gains more than ``bar`` standard errors over it; of several that
    do, the most accurate wins. The runner-up is the most accurate of the rest.
    """
    champion = next(iter(candidates))
    bar = error_bar(len(candidates) - 1)
    entries = [
        _describe(name, candidates[name], scores[name], scores[champion], folds)
        for name in candidates
    ]
    better = [entry for entry in entries if entry.gain > bar * entry.gain_se]
    winner = max(better, key=lambda entry: entry.accuracy, default=entries[0])
    rest = [entry for entry in entries if entry.name != winner.name]
    runner_up = max(rest, key=lambda entry: entry.accuracy)
    difference = scores[winner.name] - scores[runner_up.name]
    margin, margin_se = mean_and_error(difference.mean(axis=1), folds.units)
    return Race(
        method=METHOD,
        num_clips=len(folds.units),
        num_groups=len(np.unique(folds.units)),
        folds=folds.kind,
        num_folds=folds.num_folds,
        partitions=len(folds.ids),
        noisy_copies=1,
        noise_snr_db=NOISE_SNR_DB,
        bar=bar,
        candidates=tuple(entries),
        winner=winner.name,
        runner_up=runner_up.name,
        margin=margin,
        margin_se=margin_se,
    )


def error_bar(contenders: int) -> float:
    """Return how many standard errors the best of ``contenders`` must gain.

    One for one contender. For more it rises so that luck alone still passes it as rarely as one
    standard error (16 %; Sidak 1967, JASA 62): the best of five equals gains one by luck alone in
    58 % of all races.
    """
    return round(float(norm.ppf(norm.cdf(1.0) ** (1.0 / contenders))), 4)


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
