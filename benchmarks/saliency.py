"""Does the router's saliency find the event, and what does it cost beside the stem?

    python benchmarks/saliency.py [--run RUN --dataset DIR] [--clips 2000] [--threads 1] [--json]

Without a run it makes a synthetic set (``xmoe synth``'s default, boxes known), trains on it with
the default settings (about two minutes on one core) and throws both away. Every method explains
the answer to each test clip. *Pointing* is exact: the highest cell must lie in the event's box. A
random map scores the share of the spectrogram that boxes cover. Deletion (low is good) and
insertion (high is good) are measured on the first ``--judged`` clips. Times are the best of
``--repeats`` rounds at batch 32 in which stem and saliency take turns.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from xmoe.audio.dataset import Dataset, load_dataset
from xmoe.audio.synth import SynthConfig, read_boxes, write_dataset
from xmoe.config import ModelConfig, RoutingConfig, RunConfig, SpectroConfig, TrainConfig
from xmoe.explain.faithfulness import measure_faithfulness
from xmoe.explain.localise import Localisation, box_mask, map_batches, score_maps
from xmoe.explain.methods import METHODS
from xmoe.explain.scales import scales_of
from xmoe.explain.subject import Subject
from xmoe.explain.targets import ClassTarget
from xmoe.frontend.registry import build_frontend
from xmoe.model.saliency import activation_map, class_belief, saliency_cells, saliency_map
from xmoe.training.loop import Trainer
from xmoe.training.store import build_store

BATCH = 32
TARGETS = {"pointing": 0.90, "energy": 0.70, "cost": 0.25}


@dataclass(frozen=True)
class BoxedClips:
    """``specs`` and ``masks`` [n, F, T] of the test clips, ``truth`` [n] their classes."""

    specs: Tensor
    masks: Tensor
    truth: Tensor


def train_subject(dataset: Dataset, folder: Path) -> Subject:
    """Return a mixture fitted to a data set with the default settings."""
    spectro = SpectroConfig()
    config = RunConfig(
        classes=dataset.classes,
        spectro=spectro,
        model=ModelConfig(num_classes=len(dataset.classes)),
        train=TrainConfig(device="cpu"),
    )
    frontend = build_frontend(spectro)
    stores = [
        build_store(folder / split, dataset, dataset.split(split), frontend)[0]
        for split in ("train", "val")
    ]
    trainer = Trainer(config, frontend, *stores, device=torch.device("cpu"))
    began = time.monotonic()
    while trainer.epoch < trainer.epochs:
        trainer.train_epoch()
        done, took = trainer.epoch / trainer.epochs, time.monotonic() - began
        print(f"\rtraining {done:4.0%}, {took:.0f} s", end="", file=sys.stderr, flush=True)
    print(f"\ntrained on {len(stores[0])} clips", file=sys.stderr)
    return Subject(trainer.averaged.eval(), frontend, RoutingConfig(), dataset.classes)


def load_subject(run: Path) -> Subject:
    """Return the classifier of a run folder."""
    from xmoe.predict import Predictor

    return Subject.of(Predictor.load(run))


def load_test(subject: Subject, dataset: Dataset, folder: Path) -> BoxedClips:
    """Return the whole test clips of a data set with boxes."""
    frontend, boxes = subject.frontend, read_boxes(dataset.root)
    store, _ = build_store(folder / "test", dataset, dataset.split("test"), frontend)
    frames = int(store.frames.max())
    power, valid = store.batch(list(range(len(store))), [0] * len(store), frames)
    scales = scales_of(frontend, frames)
    masks = [box_mask(boxes[clip_id], scales) for clip_id in store.clip_ids]
    truth = torch.from_numpy(store.targets.copy())
    return BoxedClips(frontend.compress(power, valid), torch.stack(masks), truth)


def score_method(
    name: str, subject: Subject, clips: BoxedClips, answer: Tensor, judged: int
) -> dict[str, Any]:
    """Return localisation on all and on correctly answered clips, and faithfulness on some."""
    routing = subject.routing
    if name == "random":
        generator = torch.Generator().manual_seed(0)
        maps = torch.rand(clips.specs.shape, generator=generator)
    else:
        maps = map_batches(subject.model, routing, clips.specs, answer, name)
    right = answer == clips.truth
    found = measure_faithfulness(
        subject.probabilities,
        clips.specs[:judged],
        maps[:judged],
        answer[:judged],
        generator=torch.Generator().manual_seed(0),
    )
    return {
        "all": score_maps(name, maps, clips.masks),
        "right": score_maps(name, maps[right], clips.masks[right]),
        "deletion": float(found.deletion.mean()),
        "insertion": float(found.insertion.mean()),
    }


def best_ms(works: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Return the least milliseconds of each work; they take turns, so load slows all alike."""
    best = dict.fromkeys(works, float("inf"))
    for _ in range(repeats):
        for name, work in works.items():
            began = time.perf_counter()
            work()
            best[name] = min(best[name], (time.perf_counter() - began) * 1e3)
    return best


def measure_cost(subject: Subject, specs: Tensor, repeats: int) -> dict[str, float]:
    """Return milliseconds at batch 32: the stem, what saliency adds to it, whole methods."""
    model, batch = subject.model, specs[:BATCH]
    multi_label = model.config.task == "multi_label"
    plan = model.plan(batch, subject.routing)

    def cam() -> Tensor:
        belief = class_belief(output.logits, multi_label=multi_label)
        return activation_map(model.stem, output, belief)

    with torch.no_grad():
        output = model.stem(batch)
        light = best_ms(
            {
                "stem": lambda: model.stem(batch),
                "saliency cells": lambda: saliency_cells(cam(), batch),
                "saliency map": lambda: saliency_map(cam(), batch),
            },
            repeats,
        )
    heavy = best_ms(
        {
            name: partial(METHODS[name], model, batch, plan, ClassTarget(0))
            for name in ("gradcam", "gradient_x_input")
        },
        max(2, repeats // 8),
    )
    return light | heavy


def print_tables(rows: dict[str, dict[str, Any]], cost: dict[str, float], accuracy: float) -> None:
    """Print what was measured, and whether the aims are met."""
    console = Console(width=118)
    some = next(iter(rows.values()))
    table = Table(
        title=f"{some['all'].num_clips} test clips, {accuracy:.1%} answered right; "
        f"boxes cover {some['all'].area:.1%}"
    )
    for column in ("method", "pointing", "energy in box", "pointing, right answers", "energy"):
        table.add_column(column)
    for column in ("deletion", "insertion"):
        table.add_column(column, justify="right")
    for name, row in rows.items():
        whole, right = row["all"], row["right"]
        table.add_row(
            name,
            _with_interval(whole.pointing, whole.pointing_ci),
            _with_interval(whole.energy, whole.energy_ci),
            f"{right.pointing:.3f}",
            f"{right.energy:.3f}",
            f"{row['deletion']:.3f}",
            f"{row['insertion']:.3f}",
        )
    console.print(table)
    table = Table(title=f"Milliseconds at batch {BATCH}, {torch.get_num_threads()} thread(s)")
    for column in ("work", "ms", "share of the stem"):
        table.add_column(column, justify="left" if column == "work" else "right")
    for name, spent in cost.items():
        table.add_row(name, f"{spent:.2f}", f"{spent / cost['stem']:.0%}")
    console.print(table)
    for name, value in aims(rows["saliency"]["all"], cost).items():
        aim = TARGETS[name]
        met = value <= aim if name == "cost" else value >= aim
        sign = "<=" if name == "cost" else ">="
        console.print(f"{name} {value:.3f}, aim {sign} {aim:.2f}: {'met' if met else 'NOT met'}")


def aims(found: Localisation, cost: dict[str, float]) -> dict[str, float]:
    """Return the figures that have an aim."""
    share = cost["saliency map"] / cost["stem"]
    return {"pointing": found.pointing, "energy": found.energy, "cost": share}


def _with_interval(value: float, interval: tuple[float, float]) -> str:
    return f"{value:.3f} ({interval[0]:.3f}-{interval[1]:.3f})"


def measure(options: argparse.Namespace, folder: Path) -> None:
    """Make or load what is measured, measure it, and print it."""
    root = options.dataset
    if root is None:
        root = write_dataset(folder / "set", SynthConfig(num_clips=options.clips))
    dataset = load_dataset(root)
    subject = load_subject(options.run) if options.run else train_subject(dataset, folder)
    clips = load_test(subject, dataset, folder)
    parts = [subject.probabilities(spec) for spec in clips.specs.split(BATCH)]
    answer = torch.cat(parts).argmax(1)
    accuracy = float((answer == clips.truth).double().mean())
    rows = {
        name: score_method(name, subject, clips, answer, options.judged)
        for name in (*METHODS, "random")
    }
    cost = measure_cost(subject, clips.specs, options.repeats)
    if options.json:
        plain = {
            name: {key: getattr(value, "__dict__", value) for key, value in row.items()}
            for name, row in rows.items()
        }
        print(json.dumps({"accuracy": accuracy, "methods": plain, "ms": cost}, indent=2))
    else:
        print_tables(rows, cost, accuracy)


def main() -> None:
    """Read the options and measure in a folder that is removed after."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", type=Path, help="run folder; trains a mixture where not given")
    parser.add_argument("--dataset", type=Path, help="folder with boxes.csv, from xmoe synth")
    parser.add_argument("--clips", type=int, default=2000)
    parser.add_argument("--judged", type=int, default=96)
    parser.add_argument("--repeats", type=int, default=60)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.run and not options.dataset:
        parser.error("--run needs --dataset, the set whose boxes are known")
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory(prefix="xmoe-saliency-") as name:
        measure(options, Path(name))


if __name__ == "__main__":
    main()
