"""Where should a pretrained network listen? Accuracy on one window of each segment, by who picks.

    python benchmarks/where.py --data DIR --runs runs --only esc10-1 esc10-2 ...

``runs`` is what ``benchmarks/real_sets.py`` left behind with ``--backbone``. Every test clip of a
set is answered by the run's network alone: on all windows of each segment, and on one window that
is picked by saliency, by activation map, by energy, or at random (mean of three draws). The head is
the run's own whoever picks. Calls are windows; those of one window are told as a share of all.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from real_sets import JOBS, Job

from xmoe.audio.dataset import load_dataset
from xmoe.backbones.windows import place_windows
from xmoe.base.config import BackboneSpec, SelectorName
from xmoe.base.files import write_bytes
from xmoe.experts.backbone import BackboneExpert
from xmoe.features.segments import eval_segments
from xmoe.features.store import SpectrogramStore, build_store, open_store
from xmoe.frontend.threads import one_thread
from xmoe.predict.predictor import Predictor

SELECTORS: tuple[SelectorName, ...] = ("saliency", "cam", "energy", "random")
DRAWS = 3
HEADER = (
    "| set | test split | network | windows of a segment | all windows % | " + "one window by "
    "saliency % | activation map % | energy % | at random % |\n" + "|---" * 9 + "|"
)


def hear_with(predictor: Predictor, name: str, windows: int | None) -> None:
    """Let a network hear so many windows of a segment, all without a number."""
    model = predictor.model
    experts = tuple(
        spec.model_copy(update={"windows": windows}) if spec.name == name else spec
        for spec in model.config.experts
    )
    model.config = model.config.model_copy(update={"experts": experts})
    expert = model.experts[name]
    assert isinstance(expert, BackboneExpert)
    expert.spec = expert.spec.model_copy(update={"windows": windows})


def score(
    predictor: Predictor, store: SpectrogramStore, name: str, selector: SelectorName, seed: int = 0
) -> float:
    """Return the accuracy of one network alone on the clips of a store."""
    model, config = predictor.model, predictor.config
    routing = config.routing.model_copy(update={"selector": selector})
    everyone, right = len(config.model.experts), 0.0
    with one_thread(), torch.inference_mode(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for index in range(len(store)):
            segments = eval_segments(store, predictor.frontend, [index])
            plan, inputs = model.prepare(segments.spec, routing, sound=segments.sound, k=everyone)
            request = next(one for one in model.requests(plan, inputs) if one.name == name)
            pooled = predictor.experts[name](request).mean(0, keepdim=True)
            truth = predictor.task.rows(store.targets[index : index + 1], len(config.classes))
            right += float(predictor.task.rightness(pooled, torch.from_numpy(truth)).mean())
    return right / len(store)


def judge(job: Job, run: Path, data: Path) -> list[list[str | float]]:
    """Return a row for each network of a run."""
    predictor = Predictor.load(run)
    manifest = data / job.folder / job.manifest
    dataset = load_dataset(data / job.folder, manifest)
    rows: list[list[str | float]] = []
    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder) / "test"
        examples, frontend = dataset.split("test"), predictor.frontend
        build_store(where, dataset, examples, frontend, by_segment=True, with_sound=True)
        store = open_store(where)
        for spec in predictor.config.model.experts:
            if not isinstance(spec, BackboneSpec):
                continue
            every = len(place_windows(predictor.config.spectro.segment_s, spec.card))
            hear_with(predictor, spec.name, None)
            found: list[float] = [score(predictor, store, spec.name, "saliency")]
            hear_with(predictor, spec.name, 1)
            for selector in SELECTORS:
                draws = range(DRAWS if selector == "random" else 1)
                picked = [score(predictor, store, spec.name, selector, seed) for seed in draws]
                found.append(statistics.mean(picked))
            rows.append([job.folder, job.asks, spec.name, float(every), *found])
    return rows


def line(row: Sequence[str | float]) -> str:
    """Return a row of the table."""
    shown = [f"{100 * cell:.1f}" for cell in row[4:] if isinstance(cell, float)]
    every = row[3]
    assert isinstance(every, float)
    return f"| {' | '.join([*map(str, row[:3]), f'{every:.0f}', *shown])} |"


def main() -> None:
    """Judge the networks of each run and print the table with means."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("XMOE_DATA", "data")))
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--only", nargs="*", help="names of jobs, such as fsdd esc10-1")
    options = parser.parse_args()
    rows: list[list[str | float]] = []
    for job in JOBS:
        run = options.runs / job.name
        if (options.only and job.name not in options.only) or not run.is_dir():
            continue
        for row in judge(job, run, options.data):
            rows.append(row)
            print(line(row), file=sys.stderr, flush=True)
    figures = [[cell for cell in row[4:] if isinstance(cell, float)] for row in rows]
    means = [f"{100 * statistics.mean(column):.1f}" for column in zip(*figures, strict=True)]
    text = "\n".join([HEADER, *map(line, rows), f"| mean | | | | {' | '.join(means)} |"]) + "\n"
    write_bytes(options.runs / "where.md", text.encode())
    print(text)


if __name__ == "__main__":
    main()
