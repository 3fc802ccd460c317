"""Do the maps find the event, are they faithful, and what does each cost?

    python benchmarks/saliency.py [--run RUN --dataset DIR] [--clips 2000] [--threads 1] [--json]

Without a run it makes a synthetic set (``xmoe synth``'s default, boxes known), trains on it by
gradient (about two minutes on one core) and throws both away. Every method explains
the answer to each test clip; ``contrast`` is the factor of the router's saliency that needs no
weights, alone. *Pointing* is exact: the highest cell must lie in the event's box. A random map
scores the share of the spectrogram that boxes cover. Deletion (low is good) and insertion (high is
good) are measured on the first ``--judged`` clips, where occlusion is measured at all. Times are
the best of ``--repeats`` rounds in which all take turns. Of a run whose experts hear sound, cells
are rubbed out of the sound too. The aim of cost is for what saliency adds
to a clip that is answered anyway (the stem is known); Grad-CAM needs a pass of its own that keeps
gradients. The row ``saliency`` counts the stem too.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from localise import Localisation, box_mask, map_batches, score_maps
from rich.console import Console
from rich.table import Table
from torch import Tensor

from xmoe.audio.dataset import Dataset, load_dataset
from xmoe.audio.sound import Sound
from xmoe.audio.synth import SynthConfig, read_boxes, write_dataset
from xmoe.base.config import (
    EXPERT_NAMES,
    ModelConfig,
    RoutingConfig,
    RunConfig,
    SpectroConfig,
    TrainConfig,
)
from xmoe.explain.faithfulness import measure_faithfulness
from xmoe.explain.maps.methods import METHODS
from xmoe.explain.mask_sound import MaskableSound
from xmoe.explain.scales import scales_of
from xmoe.explain.subject import Subject
from xmoe.explain.targets import ClassTarget
from xmoe.features.store import build_store
from xmoe.frontend.registry import build_frontend
from xmoe.glance.saliency import (
    activation_map,
    contrast,
    saliency_cells,
    saliency_map,
)
from xmoe.metrics.bootstrap import mean_interval
from xmoe.policy.records import list_specs
from xmoe.training.loop import Trainer

BATCH = 32
AIMS = {"pointing": 0.92, "energy": 0.75, "cost beside Grad-CAM": 0.10}
RANDOM, CONTRAST, ORACLE = "random", "contrast", "occlusion"


@dataclass(frozen=True)
class BoxedClips:
    """``specs`` and ``masks`` [n, F, T] of the test clips, ``truth`` [n] their classes, and their
    ``sound`` where experts hear it.
    """

    specs: Tensor
    masks: Tensor
    truth: Tensor
    sound: Sound | None

    def mask(self, subject: Subject, count: int) -> MaskableSound | None:
        """Return what can be masked of the first clips' sound."""
        if self.sound is None:
            return None
        sound = self.sound.rows(slice(count))
        return MaskableSound.of(subject.frontend, sound, self.specs.shape[2])


def train_subject(dataset: Dataset, folder: Path) -> Subject:
    """Return a mixture fitted to a data set by gradient, with the default settings."""
    spectro = SpectroConfig()
    config = RunConfig(
        classes=dataset.classes,
        spectro=spectro,
        model=ModelConfig(
            experts=list_specs(EXPERT_NAMES, spectro), num_classes=len(dataset.classes)
        ),
        train=TrainConfig(device="cpu"),
    )
    frontend = build_frontend(spectro)
    stores = [
        build_store(
            folder / name, dataset, dataset.split(name), frontend, by_segment=name == "val"
        )[0]
        for name in ("train", "val")
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
    from xmoe.predict.predictor import Predictor

    return Subject.of(Predictor.load(run))


def load_test(subject: Subject, dataset: Dataset, folder: Path) -> BoxedClips:
    """Return the whole test clips of a data set with boxes."""
    frontend, boxes = subject.frontend, read_boxes(dataset.root)
    hears = subject.model.config.hears_sound
    store, _ = build_store(
        folder / "test", dataset, dataset.split("test"), frontend, with_sound=hears
    )
    frames = int(store.frames.max())
    power, valid = store.batch(list(range(len(store))), [0] * len(store), frames)
    scales = scales_of(frontend, frames)
    masks = [box_mask(boxes[clip_id], scales) for clip_id in store.clip_ids]
    truth = torch.from_numpy(store.targets.copy())
    sound = None if store.sound is None else store.sound.rows(list(range(len(store))))
    return BoxedClips(frontend.compress(power, valid), torch.stack(masks), truth, sound)


def draw_maps(name: str, subject: Subject, clips: BoxedClips, answer: Tensor) -> Tensor:
    """Return the maps [n, F, T] of a method, of chance, or of the contrast alone."""
    specs = clips.specs[: len(answer)]
    if name == RANDOM:
        return torch.rand(specs.shape, generator=torch.Generator().manual_seed(0))
    if name == CONTRAST:
        return contrast(specs)
    sound = None if clips.sound is None else clips.sound.rows(slice(len(answer)))
    return map_batches(subject, specs, answer, name, sound)


def score_method(
    name: str, subject: Subject, clips: BoxedClips, answer: Tensor, judged: int
) -> dict[str, Any]:
    """Return localisation on all and on correctly answered clips, and faithfulness on some.

    A model that is right nowhere is scored on all clips twice.
    """
    began = time.monotonic()
    count = judged if name == ORACLE else len(answer)
    maps = draw_maps(name, subject, clips, answer[:count])
    right = (answer == clips.truth)[:count]
    right = right if bool(right.any()) else torch.ones_like(right)
    found = measure_faithfulness(
        partial(ClassTarget(tuple(answer[:judged].tolist())).watch, subject),
        clips.specs[:judged],
        maps[:judged],
        generator=torch.Generator().manual_seed(0),
        sound=clips.mask(subject, judged),
    )
    print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr)
    return {
        "all": score_maps(name, maps, clips.masks[:count]),
        "right": score_maps(name, maps[right], clips.masks[:count][right]),
        "deletion": found.deletion.double().numpy(),
        "insertion": found.insertion.double().numpy(),
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


def measure_cost(subject: Subject, clips: BoxedClips, count: int, repeats: int) -> dict[str, float]:
    """Return milliseconds of ``count`` clips: the stem, what saliency adds to it, whole methods."""
    model, specs, heard = subject.model, clips.specs[:count], clips.mask(subject, count)
    sound = None if heard is None else heard.sound
    plan, _ = subject.answer(*model.prepare(specs, subject.routing, sound=sound))

    def cam() -> Tensor:
        return activation_map(model.stem, output, model.task.belief(output.logits))

    with torch.no_grad():
        output = model.stem(specs)
        light = best_ms(
            {
                "stem": lambda: model.stem(specs),
                "saliency cells, stem known": lambda: saliency_cells(cam(), specs),
                "saliency map, stem known": lambda: saliency_map(cam(), specs),
            },
            repeats,
        )
    asked = (model, specs, plan, ClassTarget(0), heard)
    works = {name: partial(method, *asked) for name, method in METHODS.items()}
    oracle = {ORACLE: works.pop(ORACLE)}
    heavy = best_ms(works, max(2, repeats // 4))
    return light | heavy | best_ms(oracle, 1 if len(specs) > 1 else 2)


def print_tables(
    rows: dict[str, dict[str, Any]], costs: dict[int, dict[str, float]], accuracy: float
) -> None:
    """Print what was measured, and whether the aims are met."""
    console = Console(width=132)
    some = rows["saliency"]
    table = Table(
        title=f"{some['all'].num_clips} test clips, {accuracy:.1%} answered right; "
        f"boxes cover {some['all'].area:.1%}; deletion and insertion on {len(some['deletion'])}"
    )
    for column in ("method", "pointing", "energy in box", "right answers", "deletion", "insertion"):
        table.add_column(column)
    for name, row in rows.items():
        whole, right = row["all"], row["right"]
        table.add_row(
            name,
            _with_interval(whole.pointing, whole.pointing_ci),
            _with_interval(whole.energy, whole.energy_ci),
            f"{right.pointing:.3f}, {right.energy:.3f}",
            *(_mean_with_interval(row[key]) for key in ("deletion", "insertion")),
        )
    console.print(table)
    for batch, cost in costs.items():
        title = f"Milliseconds at batch {batch}, {torch.get_num_threads()} thread(s)"
        table = Table(title=title)
        for column in ("work", "ms", "share of the stem", "share of Grad-CAM"):
            table.add_column(column, justify="left" if column == "work" else "right")
        for name, spent in cost.items():
            shares = (spent / cost["stem"], spent / cost["gradcam"])
            table.add_row(name, f"{spent:.2f}", *(f"{share:.1%}" for share in shares))
        console.print(table)
    found = {"pointing": some["all"].pointing, "energy": some["all"].energy}
    found["cost beside Grad-CAM"] = max(
        cost["saliency map, stem known"] / cost["gradcam"] for cost in costs.values()
    )
    for name, value in found.items():
        low = name.startswith("cost")
        met = value <= AIMS[name] if low else value >= AIMS[name]
        sign = "<=" if low else ">="
        console.print(f"{name} {value:.3f}, aim {sign} {AIMS[name]:.2f}: {_say_met(met)}")
    worse = some["deletion"] - rows["gradcam"]["deletion"]
    low, _ = interval_of(worse)
    words = f"deletion less that of Grad-CAM {_mean_with_interval(worse)}, aim: holds 0 or less"
    console.print(f"{words}: {_say_met(low <= 0)}")


def interval_of(values: Any) -> tuple[float, float]:
    """Return the 95 % interval of a mean; the mean itself where there is one clip alone."""
    found = mean_interval(values)
    return (found[0], found[1]) if found else (float(values.mean()),) * 2


def _say_met(met: bool) -> str:
    return "met" if met else "NOT met"


def _mean_with_interval(values: Any) -> str:
    return _with_interval(float(values.mean()), interval_of(values))


def _with_interval(value: float, interval: Sequence[float] | None) -> str:
    return f"{value:.3f} ({interval[0]:.3f} to {interval[1]:.3f})" if interval else f"{value:.3f}"


def measure(options: argparse.Namespace, folder: Path) -> tuple[Any, Any, float]:
    """Make or load what is measured; return rows by method, milliseconds and the accuracy."""
    root = options.dataset
    if root is None:
        root = write_dataset(folder / "set", SynthConfig(num_clips=options.clips))
    dataset = load_dataset(root)
    subject = load_subject(options.run) if options.run else train_subject(dataset, folder)
    clips = load_test(subject, dataset, folder)
    answer = subject.probabilities(clips.specs, clips.sound).argmax(1)
    accuracy = float((answer == clips.truth).double().mean())
    rows = {
        name: score_method(name, subject, clips, answer, options.judged)
        for name in (*METHODS, CONTRAST, RANDOM)
    }
    costs = {n: measure_cost(subject, clips, n, options.repeats) for n in (1, BATCH)}
    return rows, costs, accuracy


def print_json(
    rows: dict[str, dict[str, Any]], costs: dict[int, dict[str, float]], accuracy: float
) -> None:
    """Print all that was measured as one JSON object."""
    plain = {name: {key: _plain(v) for key, v in row.items()} for name, row in rows.items()}
    print(json.dumps({"accuracy": accuracy, "methods": plain, "ms": costs}, indent=2))


def _plain(value: Any) -> Any:
    """Return localisation as a dictionary, and numbers of many clips as mean and interval."""
    if isinstance(value, Localisation):
        return vars(value)
    return {"mean": float(value.mean()), "ci": interval_of(value)}


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
        found = measure(options, Path(name))
    (print_json if options.json else print_tables)(*found)


if __name__ == "__main__":
    main()
