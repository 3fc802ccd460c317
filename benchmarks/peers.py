"""What people do today beside xmoe: a pretrained embedding and logistic regression, on every set.

    python benchmarks/peers.py --data DIR --runs runs --card birdnet.json --card speech.json

``runs`` is what ``benchmarks/real_sets.py`` left behind. For each set and each network: embeddings
of the windows of each clip, by the network's own card; logistic regression on windows, its penalty
chosen on the validation split, fitted again on train and val; the answer to a clip is the mean of
the log-probabilities of its windows. That is what BirdNET-Analyzer's training does. Beside it the
ridge on random kernels and xmoe at three budgets, all on the same test clips: ``accuracy``, ``99%``
and the cheapest answer, the stem's. Seconds are of one processor.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from real_sets import JOBS, SPARSE, Job, keep_most
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from xmoe.audio.dataset import Dataset, load_dataset
from xmoe.audio.store import load_clips
from xmoe.base.errors import AudioError
from xmoe.base.files import read_json, write_bytes, write_json
from xmoe.experts.backbone import BackboneEar
from xmoe.frontend.threads import one_thread
from xmoe.pipeline.request import read_cards

Floats = npt.NDArray[np.float64]
PENALTIES = (0.003, 0.03, 0.3, 3.0)
HEADER = (
    "| set | test split | {peers} | ridge % | xmoe, accuracy % | ms | xmoe at 99 %, % | ms "
    "| stem alone % | ms |\n"
)


# Embeddings [windows, D] of a recording by network and file, and the seconds that they took.
Book = dict[tuple[str, str], tuple[npt.NDArray[np.float32], float]]


class Embedded:
    """Windows of all clips of one split: their embeddings, and whose they are.

    What is in the book is not measured again: folds of a set hold the same recordings.
    """

    def __init__(self, dataset: Dataset, split: str, ear: BackboneEar, book: Book) -> None:
        self.rows: list[npt.NDArray[np.float32]] = []
        self.owners: list[int] = []
        self.labels: list[str] = []
        self.seconds = 0.0
        for example, clip in load_clips(dataset, dataset.split(split)):
            if isinstance(clip, AudioError):
                continue
            key = (ear.card.name, str(dataset.path(example)))
            if key not in book:
                began = time.thread_time()
                embedded = ear.embed(ear.cut(clip.samples, clip.sample_rate_hz))
                book[key] = embedded, time.thread_time() - began
            found, taken = book[key]
            self.seconds += taken
            self.rows.append(found)
            self.owners += [len(self.labels)] * len(found)
            self.labels.append(example.labels[0])

    @property
    def windows(self) -> npt.NDArray[np.float32]:
        """The embeddings [windows, D]."""
        return np.concatenate(self.rows)

    @property
    def window_labels(self) -> npt.NDArray[np.str_]:
        """The label of each window's clip."""
        return np.array(self.labels)[self.owners]

    def score(self, model: Any) -> float:
        """Return the share of clips that a model of windows answers rightly."""
        logs = np.log(np.clip(model.predict_proba(self.windows), 1e-9, None))
        pooled = np.zeros((len(self.labels), logs.shape[1]))
        np.add.at(pooled, self.owners, logs)
        counts = np.bincount(self.owners)[:, None]
        answers = model.classes_[(pooled / counts).argmax(1)]
        return float((answers == np.array(self.labels)).mean())


def fit(parts: Sequence[Embedded], penalty: float) -> Any:
    """Return logistic regression on the windows of ``parts``."""
    model = make_pipeline(StandardScaler(), LogisticRegression(C=penalty, max_iter=300))
    features = np.concatenate([part.windows for part in parts])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(features, np.concatenate([part.window_labels for part in parts]))


def judge_peer(dataset: Dataset, ear: BackboneEar, book: Book) -> dict[str, float]:
    """Return accuracy on test, seconds to train, and milliseconds for a clip."""
    with one_thread():
        train, val, test = (
            Embedded(dataset, split, ear, book) for split in ("train", "val", "test")
        )
        began = time.thread_time()
        penalty = max(PENALTIES, key=lambda c: val.score(fit([train], c)))
        model = fit([train, val], penalty)
        fitted = time.thread_time() - began
    return {
        "accuracy": test.score(model),
        "penalty": penalty,
        "train_s": train.seconds + val.seconds + fitted,
        "clip_ms": 1000.0 * test.seconds / len(test.labels),
    }


def describe_run(run: Path) -> dict[str, Any]:
    """Return the figures of a run of ``real_sets.py`` on the same clips."""
    found = {**read_json(run / "metrics.json"), **read_json(run / "closed_form.json")}
    most = keep_most(found)
    return {
        "accuracy": found["accuracy"],
        "interval": found["accuracy_ci"],
        "ms": found["mean_ms"],
        "most": most["accuracy"],
        "most_ms": most["mean_ms"],
        "stem": found["accuracy_at_fixed_k"]["0"],
        "stem_ms": found["ms_at_fixed_k"]["0"],
        "ridge": found["baseline_accuracy"],
        "minutes": found["minutes"],
    }


def row(job: Job, peers: Mapping[str, Mapping[str, float]], ours: Mapping[str, Any]) -> str:
    """Return a line of the table."""
    cells = [job.folder, job.asks]
    cells += [
        f"{100 * peer['accuracy']:.1f} ({peer['train_s']:.0f} s, {peer['clip_ms']:.0f} ms)"
        for peer in peers.values()
    ]
    low, high = ours["interval"]
    cells += [
        f"{100 * ours['ridge']:.1f}",
        f"{100 * ours['accuracy']:.1f} ({100 * low:.1f} - {100 * high:.1f})",
        f"{ours['ms']:.0f}",
        f"{100 * ours['most']:.1f}",
        f"{ours['most_ms']:.0f}",
        f"{100 * ours['stem']:.1f}",
        f"{ours['stem_ms']:.1f}",
    ]
    return f"| {' | '.join(cells)} |"


def summarise(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the means over the sets; folds of esc10 count as one set."""
    by_set: dict[str, list[list[float]]] = {}
    for name, one in found.items():
        key = name.split("-")[0] if name.startswith("esc10") else name
        figures = [peer["accuracy"] for peer in one["peers"].values()]
        best = max(figures)
        figures += [best, one["xmoe"]["accuracy"], one["xmoe"]["most"]]
        by_set.setdefault(key, []).append(figures)
    means = 100 * np.mean([np.mean(rows, axis=0) for rows in by_set.values()], axis=0)
    names = list(next(iter(found.values()))["peers"])
    names += ["the better of them on each set", "xmoe", "xmoe at 99 %"]
    return "mean over the sets: " + ", ".join(
        f"{name} {mean:.1f} %" for name, mean in zip(names, means, strict=True)
    )


def main() -> None:
    """Judge every network on every set, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("XMOE_DATA", "data")))
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--card", type=Path, action="append", required=True)
    parser.add_argument("--only", nargs="*", help="names of jobs, such as fsdd esc10-1")
    options = parser.parse_args()
    networks = read_cards(options.card)
    kept = options.runs / "peers.json"
    found: dict[str, Any] = read_json(kept) if kept.is_file() else {}
    book: Book = {}
    jobs = [job for job in JOBS if job.folder != SPARSE]
    jobs = [job for job in jobs if not options.only or job.name in options.only]
    for job in jobs:
        peers = found.get(job.name, {}).get("peers", {})
        dataset = load_dataset(options.data / job.folder, options.data / job.folder / job.manifest)
        for spec in networks:
            if spec.name not in peers:
                peers[spec.name] = judge_peer(dataset, BackboneEar(spec.card, spec.folder), book)
        found[job.name] = {"peers": peers, "xmoe": describe_run(options.runs / job.name)}
        write_json(kept, found)
        print(row(job, peers, found[job.name]["xmoe"]), file=sys.stderr, flush=True)
    shown = {job.name: found[job.name] for job in jobs}
    header = HEADER.format(peers=" | ".join(f"{spec.name} + LR %" for spec in networks))
    lines = [header + "|---" * (9 + len(networks)) + "|"]
    lines += [row(job, shown[job.name]["peers"], shown[job.name]["xmoe"]) for job in jobs]
    text = "\n".join([*lines, "", summarise(shown)]) + "\n"
    write_bytes(options.runs / "peers.md", text.encode())
    print(text)


if __name__ == "__main__":
    main()
