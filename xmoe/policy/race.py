"""Training clips -> which front end the probe prefers, by how much, and how certain that is.

A ridge on random-kernel features answers each fold after being fitted on the others; both copies of
a clip and its whole group are held out together. Differences are paired: the standard error is that
of a clip's gain, over groups. Test and validation clips are never touched.

All candidates share rate, band, rows, frames and segments, so the model stays the same; what
differs is the frequency axis, the window and the compression. The winner is heard for every clip: a
transform that would take several times as long does not race, it may be an expert.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from xmoe.audio.dataset import Dataset, Example
from xmoe.audio.segment import Segment
from xmoe.base.config import SpectroConfig
from xmoe.base.progress import Progress, silent
from xmoe.base.task import Task, task_of
from xmoe.experts.ridge import Floats, hold_out
from xmoe.frontend.measure import measure_segments
from xmoe.frontend.registry import build_frontend
from xmoe.frontend.threads import time_ms
from xmoe.glance.kernel_stem import KernelStem
from xmoe.policy.copies import NOISE_SNR_DB, measure_copies
from xmoe.policy.folds import Folds, make_folds, pick_clips, strata
from xmoe.policy.records import Candidate, Race
from xmoe.policy.rules import NARROW_RATIO, PCEN_LEAST_S

MAX_CLIPS, MOST_DECODED_S = 400, 20_000.0
LEAST_CLIPS, LEAST_PER_CLASS = 40, 4
FINE_FACTOR = 2
CWT_MOST_SAMPLES = 12_000_000
# Of the milliseconds that the first contender and a stem take.
MOST_COST = 4.0
METHOD = "ridge on random convolution kernels, held-out accuracy on clean and noisy copies"


def list_candidates(spectro: SpectroConfig, *, num_clips: int) -> dict[str, SpectroConfig]:
    """The contenders by name, ``spectro`` itself first.

    PCEN needs clips as long as its running mean, CQT a band of an octave or more; CWT costs most
    and races only if it takes seconds.
    """
    found: dict[str, SpectroConfig] = {spectro.frontend: spectro}
    fine = {name: FINE_FACTOR * getattr(spectro, name) for name in ("win_length", "n_fft")}
    if fine["n_fft"] <= spectro.segment_samples:
        found[f"{spectro.frontend}_fine"] = spectro.model_copy(update=fine)
    if spectro.segment_s >= PCEN_LEAST_S:
        found["pcen"] = spectro.model_copy(update={"frontend": "pcen"})
    found["stft"] = spectro.model_copy(update={"frontend": "stft"})
    if spectro.fmax_hz >= NARROW_RATIO * max(spectro.fmin_hz, 1.0):
        found["cqt"] = spectro.model_copy(update={"frontend": "cqt"})
        if num_clips * spectro.segment_samples <= CWT_MOST_SAMPLES:
            found["cwt"] = spectro.model_copy(update={"frontend": "cwt"})
    return found


def find_dear(candidates: Mapping[str, SpectroConfig]) -> tuple[str, ...]:
    """Those that, a stem included, take over four times as long as the first on this machine."""
    names = list(candidates)
    times = [measure_stem_ms(spectro) for spectro in candidates.values()]
    return tuple(name for name, ms in zip(names, times, strict=True) if ms > MOST_COST * times[0])


def measure_stem_ms(spectro: SpectroConfig) -> float:
    """Milliseconds of one core from a segment to the answer of a stem, best of several."""
    frontend, stem = build_frontend(spectro), KernelStem(num_bins=spectro.num_bins, num_classes=2)
    noise = np.random.default_rng(0).standard_normal(spectro.segment_samples).astype(np.float32)
    segments = [Segment(noise, spectro.sample_rate_hz, 0)]
    return time_ms(lambda: stem(frontend.compress(*measure_segments(segments, frontend))))


def choose_clips(dataset: Dataset, *, mean_duration_s: float, seed: int) -> list[Example]:
    """The training clips to race on: at most 400, fewer if clips are very long.

    Clips of classes with fewer than four are left out.
    """
    affordable = int(MOST_DECODED_S / max(mean_duration_s, 1e-3))
    count = min(MAX_CLIPS, max(affordable, LEAST_CLIPS))
    return pick_clips(drop_rare(dataset.split("train")), count, seed=seed)


def reason_to_skip(examples: Sequence[Example]) -> str | None:
    """Why these training clips are too few for a race, or None."""
    kept = drop_rare(examples)
    least = f"classes with at least {LEAST_PER_CLASS} training clips"
    if len(set(strata(kept))) < 2:
        return f"there are fewer than two {least}"
    if len(kept) < LEAST_CLIPS:
        return f"{len(kept)} clips are in {least}, a race takes {LEAST_CLIPS}"
    return None


def drop_rare(examples: Sequence[Example]) -> list[Example]:
    """The clips of classes with at least four; fewer say nothing when held out."""
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
    """Race the ``candidates``, which share rate and segment; the first defends its place.

    Those that cost too much are left out. Returns a reason instead if too few clips can be read.
    """
    dear = find_dear(candidates)
    candidates = {name: one for name, one in candidates.items() if name not in dear}
    readable, features = measure_copies(dataset, examples, candidates, seed=seed, progress=progress)
    reason = reason_to_skip(readable)
    if reason:
        return f"of the clips that can be read, {reason}"
    folds = make_folds(readable, seed=seed)
    task = task_of(dataset.task)
    rows = task.rows(dataset.targets(readable), len(dataset.classes))
    scores = {name: score_copies(table, rows, folds, task=task) for name, table in features.items()}
    return judge(scores, candidates, folds).model_copy(update={"too_dear": dear})


def score_copies(
    features: npt.NDArray[np.float32], rows: Floats, folds: Folds, *, task: Task
) -> Floats:
    """How well each copy [n, 2] of a clip is answered when its fold is held out.

    ``features`` [n, 2, D], ``rows`` [n, C] of 0/1. The mean over the partitions.
    """
    clips, copies, _ = features.shape
    truth = np.repeat(rows, copies, axis=0)
    flat = features.reshape(clips * copies, -1).astype(np.float64)
    answers = hold_out(flat, truth, np.repeat(folds.ids, copies, axis=1))
    scores = np.mean([score_answers(part, truth, task=task) for part in answers], axis=0)
    return np.asarray(scores.reshape(clips, copies))


def score_answers(answers: Floats, truth: Floats, *, task: Task) -> Floats:
    """Scores [n] of answers [n, C]: 1 or 0 for one label, average precision for several."""
    if task.exclusive:
        return np.asarray(answers.argmax(axis=1) == truth.argmax(axis=1), dtype=np.float64)
    return ranking_precision(answers, truth)


def ranking_precision(answers: Floats, truth: Floats) -> Floats:
    """Average precision of each row's ranked labels [n]; 0 if none is true."""
    order = np.argsort(-answers, axis=1, kind="stable")
    hits = np.take_along_axis(truth, order, axis=1)
    precision = hits.cumsum(axis=1) / np.arange(1, truth.shape[1] + 1)
    found: Floats = (precision * hits).sum(axis=1) / np.maximum(hits.sum(axis=1), 1.0)
    return found


def judge(
    scores: Mapping[str, Floats], candidates: Mapping[str, SpectroConfig], folds: Folds
) -> Race:
    """The verdict on the scores [n, 2] of each candidate, clean and noisy.

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
    """How many standard errors the best of ``contenders`` must gain.

    One for a single contender. For more it rises so that luck alone passes it as rarely as one
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
    """Mean of values [n] and its standard error, clustered by units [n].

    Rounded to four decimals, so that a machine's last bits never show.
    """
    mean = float(values.mean())
    sums = np.bincount(np.unique(units, return_inverse=True)[1], weights=values - mean)
    spread = float(np.square(sums).sum()) * len(sums) / max(len(sums) - 1, 1)
    return round(mean, 4), round(float(np.sqrt(spread)) / len(values), 4)
