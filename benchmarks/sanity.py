"""Do maps depend on what was learned? Fresh weights must destroy them.

    python benchmarks/sanity.py --run RUN --dataset DIR [--clips 24] [--fresh 4] [--picture OUT.png]

Test clips are explained by the trained model and by models of the same shape whose weights are as
before training. ``raw`` is the rank correlation of the two maps, ``unrelated`` that of two fresh
models' maps (see ``xmoe/explain/sanity.py``). A method passes where the 95 % interval of ``raw``
stays within 0.25 of zero. ``values`` is the plain correlation of the two maps' values, which weighs
the few strong cells most. Where the set has boxes, the energy in them is given for both weights.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from xmoe.audio.dataset import load_dataset
from xmoe.audio.synth import read_boxes
from xmoe.base.files import write_bytes
from xmoe.explain.canvas import draw_map, draw_spectrogram
from xmoe.explain.faithfulness import energy_in_box
from xmoe.explain.localise import box_mask
from xmoe.explain.methods import METHODS
from xmoe.explain.sanity import DESTROYED, compare_maps, draw_weights
from xmoe.explain.scales import scales_of
from xmoe.explain.subject import Subject, surest_segment
from xmoe.explain.targets import ClassTarget
from xmoe.features.segments import eval_segments
from xmoe.features.store import build_store
from xmoe.glance.saliency import contrast
from xmoe.metrics.bootstrap import mean_interval
from xmoe.mixture.moe import MoE
from xmoe.pictures.style import INK, new_figure, to_png
from xmoe.predict.predictor import Predictor

CONTRAST = "contrast"


def load_clips(options: argparse.Namespace, predictor: Predictor) -> tuple[Tensor, Tensor | None]:
    """Return the surest segment of some test clips [n, F, T], and their boxes if they have any."""
    dataset = load_dataset(options.dataset, test_fold=options.test_fold)
    examples = list(dataset.split("test"))
    order = np.random.default_rng(0).permutation(len(examples))[: options.clips]
    examples = [examples[index] for index in sorted(order.tolist())]
    with tempfile.TemporaryDirectory(prefix="xmoe-sanity-") as name:
        path, frontend = Path(name) / "test", predictor.frontend
        store, _ = build_store(path, dataset, examples, frontend, by_segment=True)
        several = [eval_segments(store, frontend, [i]).spec for i in range(len(store))]
    specs = torch.stack([s[surest_segment(predictor, s)] for s in several])
    whole = all(len(s) == 1 for s in several)
    if not whole or not (dataset.root / "boxes.csv").is_file():
        return specs, None
    boxes, scales = read_boxes(dataset.root), scales_of(predictor.frontend, specs.shape[2])
    return specs, torch.stack([box_mask(boxes[clip_id], scales) for clip_id in store.clip_ids])


def measure_method(
    name: str, subject: Subject, fresh: list[MoE], specs: Tensor, masks: Tensor | None
) -> dict[str, Any]:
    """Return the likenesses of one method as means with intervals, and the energy in boxes."""
    answers = subject.probabilities(specs).argmax(1).tolist()
    found = [
        compare_maps(subject, fresh, specs[i : i + 1], ClassTarget(answer), name)
        for i, answer in enumerate(answers)
    ]
    row: dict[str, Any] = {}
    for key in ("raw", "unrelated", "values"):
        values = np.array([getattr(likeness, key) for likeness in found])
        row[key] = float(values.mean())
        row[f"{key}_ci"] = mean_interval(values)
    low, high = row["raw_ci"] or (row["raw"],) * 2
    row["passes"] = max(abs(low), abs(high)) < DESTROYED
    if masks is not None:
        target = ClassTarget(tuple(answers))
        for key, models in (("trained", [subject.model]), ("fresh", fresh)):
            energies = [
                energy_in_box(
                    METHODS[name](m, specs, m.plan(specs, subject.routing), target), masks
                )
                for m in models
            ]
            row[f"energy_{key}"] = float(torch.stack(energies).mean())
    return row


def draw_picture(subject: Subject, fresh: list[MoE], spec: Tensor) -> bytes:
    """Return one clip's maps: a row for each method, trained weights first."""
    answer = int(subject.probabilities(spec.unsqueeze(0)).argmax())
    models = {"trained": subject.model, **{f"fresh {i + 1}": m for i, m in enumerate(fresh[:3])}}
    scales = scales_of(subject.frontend, spec.shape[1])
    figure = new_figure(10.5, 7.6, "The same clip by trained weights and by fresh ones")
    panels = figure.subplots(len(METHODS), len(models), sharex=True, sharey=True)
    for row, (name, method) in zip(panels, METHODS.items(), strict=True):
        for axes, (title, model) in zip(row, models.items(), strict=True):
            batch = spec.unsqueeze(0)
            plan = model.plan(batch, subject.routing)
            draw_spectrogram(axes, spec.numpy(), scales, words=False)
            draw_map(axes, method(model, batch, plan, ClassTarget(answer))[0].numpy(), scales)
            axes.set_title(f"{name.replace('_', ' ')}, {title}", fontsize=8, color=INK)
    return to_png(figure, dpi=70)


def print_table(rows: dict[str, dict[str, Any]], clips: int, contrast_energy: float | None) -> None:
    """Print one line per method."""
    table = Table(title=f"{clips} test clips; correlations with the map of fresh weights")
    columns = ["method", "raw", "unrelated", "values", "check"]
    columns += ["energy in box: trained", "fresh"] if contrast_energy is not None else []
    for column in columns:
        table.add_column(column)
    for name, row in rows.items():
        cells = [
            f"{row[key]:+.2f} ({row[f'{key}_ci'][0]:+.2f} to {row[f'{key}_ci'][1]:+.2f})"
            for key in ("raw", "unrelated", "values")
        ]
        energies = [f"{row[key]:.3f}" for key in ("energy_trained", "energy_fresh") if key in row]
        table.add_row(name, *cells, "passes" if row["passes"] else "FAILS", *energies)
    Console(width=132).print(table)
    if contrast_energy is not None:
        print(f"energy in box of the contrast alone, no weights: {contrast_energy:.3f}")


def main() -> None:
    """Read the options, measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--test-fold", type=int)
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--fresh", type=int, default=4, help="models of fresh weights, two or more")
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.fresh < 2 or options.clips < 2:
        parser.error("--fresh and --clips must be two or more")
    torch.set_num_threads(1)
    predictor = Predictor.load(options.run)
    subject = Subject.of(predictor)
    fresh = [draw_weights(subject.model, seed) for seed in range(options.fresh)]
    specs, masks = load_clips(options, predictor)
    rows = {name: measure_method(name, subject, fresh, specs, masks) for name in METHODS}
    energy = None if masks is None else float(energy_in_box(contrast(specs), masks).mean())
    if options.picture:
        write_bytes(options.picture, draw_picture(subject, fresh, specs[0]))
    if options.json:
        print(json.dumps({"clips": len(specs), "methods": rows, "contrast_energy": energy}))
    else:
        print_table(rows, len(specs), energy)


if __name__ == "__main__":
    main()
