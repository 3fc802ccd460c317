"""Every recording tested once: what is left of a finding when other sources are held out?

    python benchmarks/splits.py --out runs [--data DIR] [--told] [--only insects ...]

A test split of 25 or 90 clips is one draw. Here the sources of a set (speakers, tapes) are dealt
into folds, classes in proportion; each fold is the test split once, and a fifth of the rest is for
validation. A source that alone has some class is never tested. Where a set comes with folds by
source (ESC-10, ships) these are taken. Each is trained by the command line of
``benchmarks/real_sets.py``. Sources are told to the split alone; with ``--told`` manifests have a
``group`` column, and the training knows them too. Complete runs are not trained again. Prints a
line for each fold, then the means.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from real_sets import Job, run_job, say_together

from xmoe.audio.splits import hold_out
from xmoe.base.files import write_bytes, write_json

VALIDATION = 0.2  # of every class, of what is not tested


@dataclass(frozen=True)
class Recordings:
    """A set whose sources are known: where that of each file is told, and its folds.

    They are the set's own, or ``dealt`` here.
    """

    name: str
    folder: str
    source_of: Callable[[Path], Mapping[str, str]]
    folds: int = 5
    dealt: bool = False


def named(place: int, separator: str) -> Callable[[Path], Mapping[str, str]]:
    """Return a reader of one field of the files' names."""

    def read(root: Path) -> dict[str, str]:
        names = [row["filepath"] for row in read_rows(root / "metadata.csv")]
        return {name: Path(name).stem.split(separator)[place] for name in names}

    return read


def told(column: str) -> Callable[[Path], Mapping[str, str]]:
    """Return a reader of ``column`` of ``segments.csv``."""
    return lambda root: {row["filepath"]: row[column] for row in read_rows(root / "segments.csv")}


SETS = (
    Recordings("speakers", "fsdd", named(1, "_"), folds=3, dealt=True),
    Recordings("esc10", "esc10", named(1, "-")),
    Recordings("insects", "insect32", told("group"), dealt=True),
    Recordings("ships", "deepship2", told("ship")),
)
HEADER = (
    "| set | fold | test clips | mixture at its budget % | all experts % | picked on held-out clips"
    " % | best alone on test % | ridge % | at 35 % of the ms: routed / by lot |\n"
    + "|---" * 9
    + "|"
)


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a table."""
    with path.open(newline="") as handle:
        return list(csv.DictReader(handle))


def deal_sources(sources: Sequence[str], labels: Sequence[str], folds: int) -> dict[str, int]:
    """Return the fold of each source; -1 where it alone has some class.

    The largest come first, in random order where as large; each goes where fewest clips of its
    classes are, then where fewest are at all.
    """
    clips: dict[str, Counter[str]] = {}
    for source, label in zip(sources, labels, strict=True):
        clips.setdefault(source, Counter())[label] += 1
    owners = Counter(label for own in clips.values() for label in own)
    names = sorted(clips)
    order = [names[place] for place in np.random.default_rng(0).permutation(len(names))]
    dealt: list[Counter[str]] = [Counter() for _ in range(folds)]
    found = {}
    for source in sorted(order, key=lambda name: -clips[name].total()):
        own = clips[source]
        if any(owners[label] == 1 for label in own):
            found[source] = -1
            continue
        held = [(sum(fold[label] for label in own), fold.total()) for fold in dealt]
        found[source] = held.index(min(held))
        dealt[found[source]] += own
    return found


def split_fold(
    rows: Sequence[Mapping[str, str]], sources: Mapping[str, str], tested: Container[str]
) -> list[str]:
    """Return the split of each row where these sources are ``tested``."""
    groups = [sources[row["filepath"]] for row in rows]
    splits = ["test" if group in tested else "train" for group in groups]
    rest = [place for place, split in enumerate(splits) if split == "train"]
    val = hold_out(
        [groups[place] for place in rest],
        [(rows[place]["label"],) for place in rest],
        fraction=VALIDATION,
        seed=0,
    )
    for place, held in zip(rest, val, strict=True):
        if held:
            splits[place] = "val"
    return splits


def list_folds(
    one: Recordings, root: Path, sources: Mapping[str, str]
) -> Iterator[list[tuple[str, str, str]]]:
    """Yield the rows of file, split and label of each fold."""
    rows = read_rows(root / "metadata.csv")
    own = [sources[row["filepath"]] for row in rows]
    fold_of = deal_sources(own, [row["label"] for row in rows], one.folds) if one.dealt else {}
    for fold in range(one.folds):
        if one.dealt:
            tested = {source for source, its in fold_of.items() if its == fold}
            splits = split_fold(rows, sources, tested)
        else:
            rows = read_rows(root / f"metadata_fold{fold + 1}.csv")
            splits = [row["split"] for row in rows]
        pairs = zip(rows, splits, strict=True)
        yield [(row["filepath"], split, row["label"]) for row, split in pairs]


def write_folds(one: Recordings, data: Path, out: Path, *, is_told: bool = False) -> list[Job]:
    """Write a manifest for each fold and return their jobs."""
    root = data / one.folder
    sources, jobs = one.source_of(root), []
    for fold, rows in enumerate(list_folds(one, root, sources), 1):
        name = f"{one.name}{'-told' if is_told else ''}-{fold}"
        lines = ["filepath,split,label,group" if is_told else "filepath,split,label"]
        for file, split, label in rows:
            group = f",{sources[file]}" if is_told else ""
            lines.append(f"{file},{split},{label}{group}")
        path = (out / f"{name}.csv").resolve()
        write_bytes(path, ("\n".join(lines) + "\n").encode())
        jobs.append(Job(name, one.folder, str(path), str(fold), 0.0))
    return jobs


def read_figures(found: Mapping[str, Any]) -> dict[str, float]:
    """Return the figures of a run in per cent."""
    fixed, spent = found["accuracy_at_fixed_k"], found["at_share"]["0.35"]
    figures = {
        "budget": found["accuracy"],
        "all": fixed[max(fixed, key=int)],
        "picked": found["picked"],
        "best": max(found["alone"].values()),
        "ridge": found["baseline_accuracy"],
        "routed": spent["routed"],
        "by lot": spent["random"],
    }
    return {name: 100.0 * value for name, value in figures.items()}


def line(name: str, fold: str, clips: str, figures: Mapping[str, float]) -> str:
    """Return a line of the table."""
    cells = [f"{figures[what]:.1f}" for what in ("budget", "all", "picked", "best", "ridge")]
    spent = f"{figures['routed']:.1f} / {figures['by lot']:.1f}"
    return f"| {' | '.join([name, fold, clips, *cells, spent])} |"


def average(figures: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of each figure."""
    return {name: statistics.mean(one[name] for one in figures) for name in figures[0]}


def compare(name: str, figures: Sequence[Mapping[str, float]], other: str) -> str:
    """Return how much all experts gain on another answer over folds, in words."""
    gains = [one["all"] - one[other] for one in figures]
    error = statistics.stdev(gains) / len(gains) ** 0.5 if len(gains) > 1 else float("nan")
    never_under = sum(gain >= -1.0 for gain in gains)
    return (
        f"{name}: all experts {statistics.mean(gains):+.1f} ± {error:.1f} against {other}, no more "
        f"than 1 point under it in {never_under} of {len(gains)}"
    )


def main() -> None:
    """Run what is asked for and print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("XMOE_DATA", "data")))
    parser.add_argument("--out", type=Path, default=Path("runs"))
    parser.add_argument("--told", action="store_true", help="tell sources to the training, too")
    parser.add_argument("--only", nargs="*", help="names of sets: speakers, insects, ships, esc10")
    parser.add_argument("extra", nargs="*", help="options for every `xmoe train`, after --")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    data, out = options.data, options.out
    folds = {
        one.name: write_folds(one, data, out, is_told=options.told)
        for one in SETS
        if not options.only or one.name in options.only
    }
    every: dict[str, list[dict[str, float]]] = {}
    lines = [HEADER]
    runs = {}
    for name, jobs in folds.items():
        for job in jobs:
            found = runs[job.name] = run_job(job, data, out / job.name, options.extra)
            figures = read_figures(found)
            every.setdefault(name, []).append(figures)
            lines.append(line(name, job.asks, str(found["num_clips"]), figures))
            print(lines[-1], file=sys.stderr, flush=True)
    means = {name: average(figures) for name, figures in every.items()}
    lines += [line(name, f"mean of {len(every[name])}", "", means[name]) for name in means]
    lines += [line("mean over the sets", "", "", average(list(means.values()))), ""]
    lines += [say_together(runs, average(list(means.values()))["all"]), ""]
    for other in ("picked", "best"):
        lines += [compare(name, figures, other) for name, figures in every.items()]
        lines.append(compare("mean over the sets", list(means.values()), other))
    text = "\n".join(lines) + "\n"
    write_bytes(out / "splits.md", text.encode())
    write_json(out / "splits.json", every)
    print(text)


if __name__ == "__main__":
    main()
