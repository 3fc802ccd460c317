"""What do experts need to hear? Accuracy against the share of windows sent, and against mean K.

    python benchmarks/windows.py                        makes a sparse synthetic set and trains
    python benchmarks/windows.py --run RUN --dataset DIR [--metadata CSV] [--test-fold N]

Without a run it makes 5 s clips that hold one event of 0.2 to 0.8 s (``xmoe synth --sparse``) and
trains on them as ``xmoe train`` would. Every test clip is answered by K_max experts that hear a
share of the windows: picked by saliency, by energy, at random (mean of three draws), or, where
boxes are known, by the event's own box. Then all windows that the run sends, with K fixed, K drawn
at random around the same mean, and K chosen by the router for a range of prices. Intervals are
95 % bootstrap intervals over test clips; differences are paired with the whole map.
Writes ``--out`` (PNG) and prints both tables.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from localise import box_mask
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from torch import Tensor

from xmoe.audio.dataset import Dataset, load_dataset
from xmoe.audio.synth import SynthConfig, read_boxes, write_dataset
from xmoe.base.config import RoutingConfig
from xmoe.base.files import write_bytes
from xmoe.base.progress import show_progress
from xmoe.experts.protocol import Inputs
from xmoe.explain.scales import scales_of
from xmoe.features.segments import Segments, eval_segments
from xmoe.features.store import build_store
from xmoe.glance.saliency import pool_cells
from xmoe.glance.spans import choose_windows, score_windows
from xmoe.metrics.bootstrap import make_resampler
from xmoe.mixture.plan import Plan, choose_experts
from xmoe.pictures.style import make_plain, new_figure, to_png
from xmoe.pipeline.classifier import MoEAudioClassifier
from xmoe.predict.predictor import Predictor

FRACTIONS = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
DRAWS = 3
BATCH = 64
PRICES = (0.0, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
Right = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Bench:
    """The classifier and the test segments; ``masks`` [n, F, T] where boxes are known."""

    predictor: Predictor
    segments: Segments
    truth: Tensor
    masks: Tensor | None


def load_bench(run: Path, dataset: Dataset, folder: Path) -> Bench:
    """Return the classifier of a run and the test split of its data set."""
    predictor = Predictor.load(run)
    dataset = replace(dataset, classes=predictor.config.classes)
    examples, frontend = dataset.split("test"), predictor.frontend
    store, _ = build_store(folder / "test", dataset, examples, frontend, by_segment=True)
    segments = eval_segments(store, frontend, range(len(store)))
    masks = None
    if (dataset.root / "boxes.csv").is_file():
        boxes = read_boxes(dataset.root)
        scales = scales_of(predictor.frontend, segments.spec.shape[2])
        masks = torch.stack([box_mask(boxes[store.clip_ids[i]], scales) for i in segments.clip])
        if len(segments.spec) != len(store):
            raise SystemExit("boxes are known for clips of one segment only")
    return Bench(predictor, segments, torch.from_numpy(store.targets.copy()), masks)


def answer(
    bench: Bench,
    routing: RoutingConfig,
    *,
    k: Tensor | None = None,
    by_box: bool = False,
    seed: int | None = None,
) -> tuple[Right, float]:
    """Return whether each clip is right [n], and mean K; ``k`` [segments] fixes the counts."""
    model = bench.predictor.model
    logits, counts = [], []
    for first in range(0, len(bench.segments.spec), BATCH):
        spec = bench.segments.spec[first : first + BATCH]
        if seed is None:
            plan, inputs = model.prepare(spec, routing)
        else:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed + first)
                plan, inputs = model.prepare(spec, routing)
        if k is not None:
            gate = plan.gate.clamp_min(1e-12).log().masked_fill(plan.gate == 0, float("-inf"))
            plan = replace(plan, weights=choose_experts(gate, k[first : first + BATCH]))
        if by_box and bench.masks is not None:
            plan = look_at(plan, bench.masks[first : first + BATCH], inputs, model.bands)
        combined = model.carry_out(plan, inputs)
        logits.append(combined.logits)
        counts.append(plan.k)
    pooled = bench.segments.pool(torch.cat(logits), len(bench.truth))
    right = (pooled.argmax(1) == bench.truth).double().numpy()
    return right, float(torch.cat(counts).double().mean())


def look_at(plan: Plan, masks: Tensor, inputs: Inputs, bands: Tensor) -> Plan:
    """Return a plan whose experts hear the windows that hold most of the box [b, F, T]."""
    cells, width = pool_cells(masks.float(), inputs.stem_map.shape[2:]), inputs.window_columns
    scores = score_windows(cells, bands, width)
    anywhere = score_windows(cells, torch.ones_like(bands), width)
    keep = plan.spans.shape[2]
    return plan.with_windows(choose_windows(scores + 1e-3 * anywhere, keep))


def mean_interval(values: Right) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of a mean over clips."""
    draw, _ = make_resampler(len(values), None, 0)
    weights = draw(2000)
    means = weights @ values / weights.sum(1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


def measure_where(bench: Bench) -> list[dict[str, Any]]:
    """Return one row per selector and share of windows, K_max experts asked."""
    config = bench.predictor.config
    k = torch.full((len(bench.segments.spec),), config.model.k_max)
    base = config.routing.model_copy(update={"selector": "saliency", "window_fraction": 1.0})
    whole, _ = answer(bench, base, k=k)
    rows = []
    selectors = ["saliency", "energy", "feature", "random"]
    if bench.masks is not None:
        selectors.append("oracle")
    for fraction in FRACTIONS:
        for name in selectors:
            chosen = name if name not in ("oracle", "random") else "saliency"
            routing = base.model_copy(update={"selector": chosen, "window_fraction": fraction})
            if name == "random":
                routing = routing.model_copy(update={"selector": "random"})
                draws = [answer(bench, routing, k=k, seed=7 + d)[0] for d in range(DRAWS)]
                right = np.mean(draws, axis=0)
            else:
                right, _ = answer(bench, routing, k=k, by_box=name == "oracle")
            rows.append(
                {
                    "fraction": fraction,
                    "selector": name,
                    "accuracy": float(right.mean()),
                    "accuracy_ci": mean_interval(right),
                    "difference": float((right - whole).mean()),
                    "difference_ci": mean_interval(right - whole),
                }
            )
    return rows


def measure_how_many(bench: Bench) -> list[dict[str, Any]]:
    """Return one row per way to decide K, with the windows that the run sends."""
    config = bench.predictor.config
    routing, total = config.routing, len(bench.segments.spec)
    rows = []

    def add(way: str, right: Right, mean_k: float) -> None:
        rows.append(
            {
                "way": way,
                "mean_k": mean_k,
                "accuracy": float(right.mean()),
                "accuracy_ci": mean_interval(right),
            }
        )

    for count in range(config.model.k_max + 1):
        add("fixed", *answer(bench, routing, k=torch.full((total,), count)))
    for price in PRICES:
        right, mean_k = answer(bench, routing.model_copy(update={"k_price": price}))
        add("router", right, mean_k)
        generator = torch.Generator().manual_seed(1)
        draws = []
        for _ in range(DRAWS):
            share = torch.rand(total, generator=generator) < mean_k - int(mean_k)
            draws.append(answer(bench, routing, k=int(mean_k) + share.long())[0])
        add("random", np.mean(draws, axis=0), mean_k)
    add("chosen", *answer(bench, routing))
    return rows


def print_tables(where: list[dict[str, Any]], many: list[dict[str, Any]], title: str) -> None:
    """Print accuracy by share of windows and by mean K."""
    console = Console(width=110)
    table = Table(title=f"{title}: accuracy by the share of windows sent, K = K_max")
    for column in ("windows", "picked by", "accuracy", "95 % interval", "less the whole map"):
        table.add_column(column)
    for row in where:
        low, high = row["difference_ci"]
        table.add_row(
            f"{row['fraction']:.4g}",
            row["selector"],
            f"{row['accuracy']:.3f}",
            "{:.3f} - {:.3f}".format(*row["accuracy_ci"]),
            f"{row['difference']:+.3f} ({low:+.3f} to {high:+.3f})",
        )
    console.print(table)
    table = Table(title=f"{title}: accuracy by mean K")
    for column in ("K", "mean K", "accuracy", "95 % interval"):
        table.add_column(column)
    for row in sorted(many, key=lambda row: (row["way"], row["mean_k"])):
        interval = "{:.3f} - {:.3f}".format(*row["accuracy_ci"])
        table.add_row(row["way"], f"{row['mean_k']:.2f}", f"{row['accuracy']:.3f}", interval)
    console.print(table)


def draw(where: list[dict[str, Any]], many: list[dict[str, Any]], title: str) -> Figure:
    """Return the picture of both tables."""
    figure = new_figure(11.0, 4.4, title)
    left, right = figure.subplots(1, 2, sharey=True)
    for name in dict.fromkeys(row["selector"] for row in where):
        own = [row for row in where if row["selector"] == name]
        x, y = [row["fraction"] for row in own], [row["accuracy"] for row in own]
        left.plot(x, y, marker="o", label=name)
        if name == "saliency":
            low, high = zip(*(row["accuracy_ci"] for row in own), strict=True)
            left.fill_between(x, low, high, alpha=0.15)
    left.set_xscale("log", base=2)
    left.set_xticks(FRACTIONS, ["1/16", "1/8", "1/4", "1/2", "all"])
    left.set_xlabel("share of windows that each expert is sent")
    left.set_ylabel("accuracy on test clips")
    left.legend(title="windows picked by", frameon=False)
    for way, mark in (("router", "o-"), ("random", "x--"), ("fixed", "s:")):
        own = sorted((row["mean_k"], row["accuracy"]) for row in many if row["way"] == way)
        right.plot(*zip(*own, strict=True), mark, label=way)
    chosen = next(row for row in many if row["way"] == "chosen")
    right.plot(chosen["mean_k"], chosen["accuracy"], "k*", markersize=14, label="chosen by the run")
    right.set_xlabel("mean number of experts asked")
    right.legend(title="K decided by", frameon=False)
    for axes in (left, right):
        make_plain(axes)
    return figure


def measure(options: argparse.Namespace, folder: Path) -> None:
    """Make or load what is measured, measure it, print it and draw it."""
    run, root = options.run, options.dataset
    if root is None:
        config = SynthConfig(num_clips=options.clips, sparse=True, seed=options.seed)
        root = write_dataset(folder / "set", config)
    dataset = load_dataset(root, options.metadata, test_fold=options.test_fold)
    if run is None:
        run = options.keep or folder / "run"
        with show_progress() as progress:
            MoEAudioClassifier(device=options.device, seed=options.seed).fit(
                root, options.metadata, out_dir=run, progress=progress
            )
    bench = load_bench(run, dataset, folder)
    where, many = measure_where(bench), measure_how_many(bench)
    title = options.title or root.name
    if options.json:
        print(json.dumps({"where": where, "how_many": many}, indent=2))
    else:
        print_tables(where, many, title)
    write_bytes(options.out, to_png(draw(where, many, title)))
    print(f"picture: {options.out}")


def main() -> None:
    """Read the options and measure in a folder that is removed after."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", type=Path, help="run folder; trains one where not given")
    parser.add_argument("--dataset", type=Path, help="the run's data set; made where not given")
    parser.add_argument("--metadata", type=Path)
    parser.add_argument("--test-fold", type=int)
    parser.add_argument("--clips", type=int, default=2000, help="size of the set that is made")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--keep", type=Path, help="keep the run that is trained here")
    parser.add_argument("--title", default="", help="heading of tables and picture")
    parser.add_argument("--out", type=Path, default=Path("windows.png"))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.run and not options.dataset:
        parser.error("--run needs --dataset, the set that it was trained on")
    with tempfile.TemporaryDirectory(prefix="xmoe-windows-") as name:
        measure(options, Path(name))


if __name__ == "__main__":
    main()
