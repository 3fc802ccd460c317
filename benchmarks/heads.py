"""How should a head read its features? Held-out log loss by what is done to them before the ridge.

    python benchmarks/heads.py RUN [RUN ...] [--json FILE]

The heads of a run's experts are fitted anew on the clips that it was trained on, with the features
as they are, limited, damped, both (what ``xmoe train`` does) or brought to unit length; the stem's
stays. Sources that are judged were never fitted on. No recording is read: the runs are what
``benchmarks/real_sets.py`` left behind.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from xmoe.audio.dataset import Dataset
from xmoe.base.config import BackboneSpec, RunConfig
from xmoe.base.files import read_json, write_json
from xmoe.experts.head import REACH
from xmoe.experts.kernels import Floats32
from xmoe.experts.ridge import Floats
from xmoe.mixture.promise_router import STEM_NAME
from xmoe.pipeline.refit import read_kept
from xmoe.policy.race import mean_and_error
from xmoe.run.folder import RunFile, RunFolder
from xmoe.training.closed import ClosedJob, hold_out, read_targets
from xmoe.training.ears import Spec, StemSpec
from xmoe.training.heads import NO_ROWS, HeadFit, Targets, fit_either, measure_scaling
from xmoe.training.kernel_features import Features
from xmoe.training.stack import HeldOut, fit_stack

Way = Callable[[Floats32], Floats32]


def divide(scaled: Floats32, power: float) -> Floats32:
    length = np.linalg.norm(scaled, axis=1, keepdims=True)
    divided: Floats32 = scaled / np.maximum(length, 1e-6) ** power
    return divided


WAYS: dict[str, Way] = {
    "as they are": lambda scaled: scaled,
    "limited": lambda scaled: scaled.clip(-REACH, REACH),
    "damped": lambda scaled: divide(scaled, 0.5),
    "limited and damped": lambda scaled: divide(scaled.clip(-REACH, REACH), 0.5),
    "of unit length": lambda scaled: divide(scaled, 1.0),
}


def fit_head(features: Features, spec: Spec, targets: Targets, way: Way) -> HeadFit:
    if isinstance(spec, StemSpec):
        return fit_either(lambda: features.to_fit(spec), targets)
    if isinstance(spec, BackboneSpec):
        table, targets = features.table(spec), replace(targets, copies=NO_ROWS)
    else:
        table = np.concatenate(list(features.to_fit(spec)))
    scaling = measure_scaling([table], len(targets.rows))
    scaled = (table - scaling.mean.numpy()) / scaling.deviation.numpy()
    return fit_either(lambda: iter([way(scaled)]), targets)


def open_run(path: Path) -> tuple[RunConfig, Features, ClosedJob]:
    """A run's settings, the features that it keeps, and the job that fits its heads anew."""
    folder = RunFolder(path)
    config, features = folder.read_config(), read_kept(folder).whole
    rate_hz = int(read_json(folder.file(RunFile.CLOSED))["sample_rate_hz"])
    dataset = Dataset(path, features.examples, config.classes, config.model.task)
    job = ClosedJob(dataset, config.spectro, folder.file(RunFile.FEATURES), rate_hz)
    return config, features, job


def judge(path: Path) -> dict[str, tuple[HeldOut, Floats]]:
    """The held-out answers of a run's mixture by what its heads read, and their losses."""
    config, features, job = open_run(path)
    stem = StemSpec(spectro=config.spectro)
    targets, plan, _, _ = read_targets(job, features, stem)
    specs: dict[str, Spec] = {STEM_NAME: stem}
    specs |= {one.name: one for one in config.model.experts if one.kind in ("kernels", "backbone")}
    found = {}
    for name, way in WAYS.items():
        heads = {own: fit_head(features, spec, targets, way) for own, spec in specs.items()}
        held = hold_out(heads, targets, plan.units[features.owners])
        found[name] = held, held.losses(fit_stack(held, list(specs)).combine(held.logits))
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args(arguments)
    rows, record = [], {}
    for path in asked.runs:
        found = judge(path)
        _, plain = found["as they are"]
        cells = [path.name, f"{plain.mean():.3f}"]
        for name in list(WAYS)[1:]:
            held, losses = found[name]
            gain, error = mean_and_error(plain - losses, held.units)
            cells.append(f"{losses.mean():.3f} ({-gain:+.3f} ± {error:.3f})")
        rows.append(cells)
        record[path.name] = {name: float(losses.mean()) for name, (_, losses) in found.items()}
    for cells in (["run", *WAYS], ["---"] * (1 + len(WAYS)), *rows):
        print("| " + " | ".join(cells) + " |")
    if asked.json:
        write_json(asked.json, record)


if __name__ == "__main__":
    main()
