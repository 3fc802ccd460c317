"""Do maps depend on what was learned? Fresh weights must destroy them.

    python benchmarks/sanity.py --run RUN --dataset DIR [--clips 24] [--fresh 4] [--picture OUT.png]

Test clips are explained by the trained model and by models of the same shape whose weights are as
before training. ``raw`` is the rank correlation of the two maps, ``unrelated`` that of two fresh
models' maps (see ``fresh_weights.py``). A method passes where the 95 % interval of ``raw``
stays within 0.25 of zero. ``values`` is the plain correlation of the two maps' values, which weighs
the few strong cells most. Where the set has boxes, the energy in them is given for both weights.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fresh_weights import DESTROYED, compare_maps, draw_weights
from localise import box_mask, energy_in_box
from rich.console import Console
from rich.table import Table
from torch import Tensor

from xmoe.audio.dataset import load_dataset
from xmoe.audio.sound import Sound, join_sounds
from xmoe.audio.synth import read_boxes
from xmoe.base.files import write_bytes
from xmoe.explain.maps.methods import METHODS
from xmoe.explain.mask_sound import MaskableSound
from xmoe.explain.scales import scales_of
from xmoe.explain.show.canvas import draw_map, draw_spectrogram
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
EVERY = slice(None)


@dataclass(frozen=True)
class Clips:
    """Segments ``specs`` [n, F, T], their ``sound`` where experts hear it, and their boxes
    ``masks`` [n, F, T] if they have any.
    """

    specs: Tensor
    sound: Sound | None
    masks: Tensor | None

    def mask(self, subject: Subject, rows: slice = EVERY) -> MaskableSound | None:
        """Return what can be masked of the sound of some clips."""
        if self.sound is None:
            return None
        return MaskableSound.of(subject.frontend, self.sound.rows(rows), self.specs.shape[2])


def load_clips(options: argparse.Namespace, predictor: Predictor) -> Clips:
    """Return the surest segment of some test clips."""
    dataset = load_dataset(options.dataset, test_fold=options.test_fold)
    examples = list(dataset.split("test"))
    order = np.random.default_rng(0).permutation(len(examples))[: options.clips]
    examples = [examples[index] for index in sorted(order.tolist())]
    with tempfile.TemporaryDirectory(prefix="xmoe-sanity-") as name:
        path, frontend = Path(name) / "test", predictor.frontend
        hears = predictor.config.model.hears_sound
        store, _ = build_store(path, dataset, examples, frontend, by_segment=True, with_sound=hears)
        several = [eval_segments(store, frontend, [i]) for i in range(len(store))]
    surest = [surest_segment(predictor, one.spec, one.sound) for one in several]
    specs = torch.stack([one.spec[i] for one, i in zip(several, surest, strict=True)])
    sounds = [
        one.sound.rows(slice(i, i + 1))
        for one, i in zip(several, surest, strict=True)
        if one.sound is not None
    ]
    sound = join_sounds(sounds) if sounds else None
    whole = all(len(one.spec) == 1 for one in several)
    if not whole or not (dataset.root / "boxes.csv").is_file():
        return Clips(specs, sound, None)
    boxes, scales = read_boxes(dataset.root), scales_of(predictor.frontend, specs.shape[2])
    masks = [box_mask(boxes[clip_id], scales) for clip_id in store.clip_ids]
    return Clips(specs, sound, torch.stack(masks))


def draw_maps(
    name: str, subject: Subject, model: MoE, clips: Clips, answers: tuple[int, ...]
) -> Tensor:
    """Return the maps [n, F, T] of the answers by a method and a model."""
    own, heard = replace(subject, model=model), clips.mask(subject)
    plan, _ = own.answer(*model.prepare(clips.specs, subject.routing, sound=clips.sound))
    return METHODS[name](model, clips.specs, plan, ClassTarget(answers), heard)


def measure_method(name: str, subject: Subject, fresh: list[MoE], clips: Clips) -> dict[str, Any]:
    """Return the likenesses of one method as means with intervals, and the energy in boxes."""
    specs, masks = clips.specs, clips.masks
    answers = subject.probabilities(specs, clips.sound).argmax(1).tolist()
    found = []
    for i, answer in enumerate(answers):
        rows, target = slice(i, i + 1), ClassTarget(answer)
        heard = clips.mask(subject, rows)
        found.append(compare_maps(subject, fresh, specs[rows], target, name, heard))
    row: dict[str, Any] = {}
    for key in ("raw", "unrelated", "values"):
        values = np.array([getattr(likeness, key) for likeness in found])
        row[key] = float(values.mean())
        row[f"{key}_ci"] = mean_interval(values)
    low, high = row["raw_ci"] or (row["raw"],) * 2
    row["passes"] = max(abs(low), abs(high)) < DESTROYED
    if masks is not None:
        for key, models in (("trained", [subject.model]), ("fresh", fresh)):
            energies = [
                energy_in_box(draw_maps(name, subject, m, clips, tuple(answers)), masks)
                for m in models
            ]
            row[f"energy_{key}"] = float(torch.stack(energies).mean())
    return row


def draw_picture(subject: Subject, fresh: list[MoE], clips: Clips) -> bytes:
    """Return the first clip's maps: a row for each method, trained weights first."""
    sound = None if clips.sound is None else clips.sound.rows(slice(1))
    clip, spec = Clips(clips.specs[:1], sound, None), clips.specs[0]
    answer = int(subject.probabilities(clip.specs, sound).argmax())
    models = {"trained": subject.model, **{f"fresh {i + 1}": m for i, m in enumerate(fresh[:3])}}
    scales = scales_of(subject.frontend, spec.shape[1])
    figure = new_figure(10.5, 7.6, "The same clip by trained weights and by fresh ones")
    panels = figure.subplots(len(METHODS), len(models), sharex=True, sharey=True)
    for row, name in zip(panels, METHODS, strict=True):
        for axes, (title, model) in zip(row, models.items(), strict=True):
            draw_spectrogram(axes, spec.numpy(), scales, words=False)
            values = draw_maps(name, subject, model, clip, (answer,))[0]
            draw_map(axes, values.numpy(), scales)
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
    clips = load_clips(options, predictor)
    specs, masks = clips.specs, clips.masks
    rows = {name: measure_method(name, subject, fresh, clips) for name in METHODS}
    energy = None if masks is None else float(energy_in_box(contrast(specs), masks).mean())
    if options.picture:
        write_bytes(options.picture, draw_picture(subject, fresh, clips))
    if options.json:
        print(json.dumps({"clips": len(specs), "methods": rows, "contrast_energy": energy}))
    else:
        print_table(rows, len(specs), energy)


if __name__ == "__main__":
    main()
