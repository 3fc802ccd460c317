"""What a label is worth: accuracy against labels, by ``xmoe suggest``'s choice and others.

    python benchmarks/suggest.py RUN --dataset DIR --metadata CSV [--step 20] [--seeds 20]

The classifier is the stem of a run, fitted anew in closed form on the clips that are labelled so
far: two of each class at first, then ``--step`` more at a time out of training and validation,
chosen at random, by doubt alone, or as ``xmoe suggest`` does. Accuracy is on test, the mean over
seeds (the first labels differ), with the standard error of the mean difference from random choice.
RUN gives the front end alone; its own weights know all labels and are not used.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from xmoe.audio.dataset import load_dataset
from xmoe.audio.segment import Grid
from xmoe.audio.store import load_clips
from xmoe.base.errors import AudioError
from xmoe.base.task import SingleLabel
from xmoe.batch.choose import SHORTLIST, choose
from xmoe.experts.probabilities import fit_sharpness, to_logits
from xmoe.experts.ridge import RidgeProblem
from xmoe.frontend.threads import one_thread
from xmoe.run.folder import RunFolder
from xmoe.training.ears import StemEar, StemSpec

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Choice = Callable[[Floats, Floats, int, np.random.Generator], Ints]
FIRST = 2


def by_chance(features: Floats, doubt: Floats, count: int, rng: np.random.Generator) -> Ints:
    """Return any of them."""
    return rng.choice(len(doubt), count, replace=False)


def by_doubt(features: Floats, doubt: Floats, count: int, rng: np.random.Generator) -> Ints:
    """Return the most doubtful."""
    return np.argsort(-doubt, kind="stable")[:count]


def as_suggested(features: Floats, doubt: Floats, count: int, rng: np.random.Generator) -> Ints:
    """Return those of the most doubtful that the others are like."""
    short = np.argsort(-doubt, kind="stable")[: SHORTLIST * count]
    return short[choose(features[short], doubt[short], count)[0]]


CHOICES: dict[str, Choice] = {"random": by_chance, "doubt": by_doubt, "suggest": as_suggested}


def measure(run: Path, dataset: Path, metadata: Path | None) -> tuple[Floats, Ints, Ints, Ints]:
    """Return features [n, D], class ids [n], and the rows that may be labelled and of test."""
    spectro = RunFolder(run).read_config().spectro
    ear, data = StemEar(StemSpec(spectro=spectro)), load_dataset(dataset, metadata)
    rows, examples = [], []
    with one_thread():
        for example, clip in load_clips(data, data.examples):
            if isinstance(clip, AudioError):
                continue
            rate = clip.sample_rate_hz
            grid = Grid.of(rate, segment_s=spectro.segment_s, hop_s=spectro.segment_hop_s)
            heard = [ear.measure(part.samples, rate) for part in grid.cut(clip.samples)]
            rows.append(np.mean(heard, axis=0))
            examples.append(example)
    tested = np.array([example.split == "test" for example in examples])
    features, targets = np.array(rows, dtype=np.float64), np.asarray(data.targets(examples))
    return features, targets, np.flatnonzero(~tested), np.flatnonzero(tested)


def answer(features: Floats, targets: Ints, labelled: Ints, rows: Ints) -> Floats:
    """Return log-probabilities [m, C] of rows, of a head fitted on the labelled ones."""
    truth = np.eye(int(targets.max()) + 1)[targets[labelled]]
    problem = RidgeProblem(features[labelled], truth)
    alone = np.arange(len(labelled))
    penalty = problem.best_penalty(alone)
    sharpness = fit_sharpness(problem.leave_out(alone, penalty), truth, SingleLabel())
    return to_logits(problem.fit(penalty).predict(features[rows]), sharpness, SingleLabel())


def follow(
    choose_next: Choice, sound: tuple[Floats, Ints, Ints, Ints], step: int, steps: int, seed: int
) -> list[float]:
    """Return the accuracy on test after each step of labelling."""
    features, targets, pool, test = sound
    spread = features[pool].std(0)
    scaled = (features - features[pool].mean(0)) / np.where(spread > 1e-6, spread, 1.0)
    scaled /= np.sqrt(features.shape[1])
    rng = np.random.default_rng(seed)
    first = [rng.choice(pool[targets[pool] == c], FIRST, replace=False) for c in np.unique(targets)]
    labelled, scores = np.concatenate(first), []
    for done in range(steps + 1):
        said = answer(features, targets, labelled, test).argmax(1)
        scores.append(float((said == targets[test]).mean()))
        if done < steps:
            free = np.setdiff1d(pool, labelled)
            logits = answer(features, targets, labelled, free)
            doubt = -(np.exp(logits) * logits).sum(1)
            labelled = np.append(labelled, free[choose_next(scaled[free], doubt, step, rng)])
    return scores


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--metadata", type=Path)
    parser.add_argument("--step", type=int, default=20)
    parser.add_argument("--steps", type=int, default=7)
    parser.add_argument("--seeds", type=int, default=20)
    options = parser.parse_args()
    sound = measure(options.run, options.dataset, options.metadata)
    classes = int(sound[1].max()) + 1
    counts = [FIRST * classes + options.step * done for done in range(options.steps + 1)]
    print(f"| labels | {' | '.join(map(str, counts))} | mean gain over random |")
    print("|---" * (len(counts) + 2) + "|")
    base = None
    for name, choice in CHOICES.items():
        scores = np.array(
            [
                follow(choice, sound, options.step, options.steps, seed)
                for seed in range(options.seeds)
            ]
        )
        base = scores if base is None else base
        gains = 100 * (scores - base)[:, 1:].mean(1)
        error = gains.std(ddof=1) / np.sqrt(len(gains))
        cells = " | ".join(f"{value:.1f}" for value in 100 * scores.mean(0))
        print(f"| {name} | {cells} | {gains.mean():+.1f} ± {error:.1f} |", flush=True)


if __name__ == "__main__":
    main()
