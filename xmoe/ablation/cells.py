"""One cell of the comparison: one seed, one arm -> a small file that need not be made again.

OUT/seed-<n>/observed/   what the fixed mixture makes of train, val, test and noisy test clips
OUT/seed-<n>/cells/      <arm>.npz: the arm's curve on val, test and noisy test clips
                         windows.npz: how right clips are by selector and share of windows
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from xmoe.ablation.arms import Arm
from xmoe.ablation.curves import Array, Curve, best_single, clip_right, draw_curve, mean_curve
from xmoe.ablation.evidence import KINDS
from xmoe.ablation.heads import Decisions, decide_by, decide_jointly, fit_arm
from xmoe.ablation.observe import (
    BATCH,
    Observed,
    answer_all,
    cut_segments,
    load_observed,
    merge_clips,
    observe_clips,
    observe_training,
    save_observed,
)
from xmoe.ablation.trained import PreparedSet
from xmoe.base.config import RoutingConfig, SelectorName
from xmoe.base.errors import RunFolderError
from xmoe.base.files import write_bytes
from xmoe.base.progress import Progress, silent
from xmoe.features.store import SpectrogramStore
from xmoe.predict.predictor import Predictor
from xmoe.run.folder import RunFolder
from xmoe.training.calibrate import NOISE_DB

DRAWS = 2
NOISY_DB = 5.0
CONDITIONS = ("val", "test", "noisy")
CURVE = ("mean_k", "right", "fixed", "loss")
WINDOW_SELECTORS: tuple[SelectorName, ...] = ("saliency", "energy", "random")
WINDOW_FRACTIONS = (1 / 16, 1 / 8, 1 / 4)


@dataclass(frozen=True)
class Sight:
    """A fitted mixture and all that was observed of it: ``train`` and the three conditions."""

    predictor: Predictor
    seen: Mapping[str, Observed]


def observe_seed(
    folder: RunFolder, prepared: PreparedSet, *, samples: int, progress: Progress = silent
) -> Sight:
    """Return what is observed of one seed's mixture, from its files where they are there."""
    predictor = Predictor.load(folder.path)
    seen: dict[str, Observed] = {}
    for name in ("train", *CONDITIONS):
        path = folder.file(f"observed/{name}.safetensors")
        if path.is_file() and set(load_observed(path).evidence) == set(KINDS):
            seen[name] = load_observed(path)
            continue
        progress(f"observe {name}", 0, 1)
        if name == "train":
            seen[name] = observe_training(
                predictor.model,
                predictor.frontend,
                predictor.config,
                prepared.stores["train"],
                samples=samples,
                progress=progress,
            )
        else:
            seen[name] = _observe(predictor, prepared.stores, name)
        save_observed(path, seen[name])
        progress(f"observe {name}", 1, 1)
    return Sight(predictor, seen)


def _observe(
    predictor: Predictor, stores: Mapping[str, SpectrogramStore], condition: str
) -> Observed:
    """Return test clips as they are, with noise, or validation clips with noisy copies of them."""

    def copy(split: str, snr_db: float | None) -> Observed:
        cut = cut_segments(stores[split], predictor.frontend, predictor.config, snr_db=snr_db)
        return observe_clips(predictor.model, *cut)

    if condition == "val":
        return merge_clips([copy("val", snr_db) for snr_db in (None, *NOISE_DB)])
    return copy("test", NOISY_DB if condition == "noisy" else None)


def make_cell(arm: Arm, sight: Sight, *, steps: int) -> dict[str, npt.NDArray[np.generic]]:
    """Fit one arm and return the arrays of its cell, ``<condition>.<name>``."""
    config = sight.predictor.config
    router = None
    if arm.choice != "joint":
        router = fit_arm(arm, sight.seen["train"], config, steps=steps)
    cell: dict[str, npt.NDArray[np.generic]] = {}
    for condition in CONDITIONS:
        observed = sight.seen[condition]
        curves = []
        for draw in range(DRAWS if arm.choice == "random" or arm.shuffled else 1):
            if router is None:
                decisions = decide_jointly(sight.predictor.model, observed)
            else:
                decisions = decide_by(router, arm, observed, seed=config.train.seed + 100 + draw)
            curves.append(draw_curve(observed, decisions, task=sight.predictor.task))
        curve = mean_curve(curves)
        cell |= {f"{condition}.{name}": getattr(curve, name) for name in CURVE}
        cell[f"{condition}.gate"] = decisions.gate_logits.numpy()
        cell[f"{condition}.promises"] = decisions.promises.numpy()
        allowed = torch.isfinite(decisions.gate_logits[0])
        cell[f"{condition}.best_single"] = best_single(
            observed, task=sight.predictor.task, allowed=allowed
        )
    return cell


def make_windows_cell(
    sight: Sight,
    store: SpectrogramStore,
    reference: Mapping[str, npt.NDArray[np.generic]],
    *,
    progress: Progress = silent,
) -> dict[str, npt.NDArray[np.generic]]:
    """Return how right test clips are [selectors, fractions, clips], and with the whole map.

    The reference arm's router decides who is asked; every clip asks K_max experts, so all cells of
    one share of windows cost the same.
    """
    predictor, observed = sight.predictor, sight.seen["test"]
    segments, _ = cut_segments(store, predictor.frontend, predictor.config)
    decisions = Decisions(*(torch.from_numpy(reference[f"test.{n}"]) for n in ("gate", "promises")))
    k = torch.full((len(observed),), predictor.config.model.k_max)

    def right(selector: SelectorName, fraction: float, draw: int) -> Array:
        routing = RoutingConfig(selector=selector, window_fraction=fraction)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1000 * predictor.config.train.seed + draw)
            experts = [
                answer_all(predictor.model, s, routing)[1] for s in segments.spec.split(BATCH)
            ]
        heard = torch.cat(experts, 1)
        said = Observed(
            evidence={},
            stem=observed.stem,
            full=heard,
            part=heard,
            owner=observed.owner,
            targets=observed.targets,
        )
        return clip_right(said, decisions, k, task=sight.predictor.task)[0]

    total, done = len(WINDOW_SELECTORS) * len(WINDOW_FRACTIONS), 0
    rows = []
    for selector in WINDOW_SELECTORS:
        row = []
        for fraction in WINDOW_FRACTIONS:
            draws = range(DRAWS if selector == "random" else 1)
            row.append(np.mean([right(selector, fraction, draw) for draw in draws], axis=0))
            done += 1
            progress("windows", done, total)
        rows.append(np.stack(row))
    whole = clip_right(observed, decisions, k, task=sight.predictor.task)[0]
    return {"right": np.stack(rows), "whole": whole}


def cell_path(folder: RunFolder, name: str) -> Path:
    """Return where the cell of an arm, or ``windows``, is kept."""
    return folder.file(f"cells/{name}.npz")


def write_cell(path: Path, cell: Mapping[str, npt.NDArray[np.generic]]) -> None:
    """Write a cell so that it is there whole or not at all."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **cell)  # type: ignore[arg-type]
    write_bytes(path, buffer.getvalue())


def read_cell(path: Path) -> dict[str, npt.NDArray[np.generic]]:
    """Return the arrays of a cell; RunFolderError where the file is torn."""
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise RunFolderError(
            f"not a whole cell: {error}", where=str(path), mend="remove it and run again"
        ) from error


def read_curve(cell: Mapping[str, npt.NDArray[np.generic]], condition: str) -> Curve:
    """Return the curve of a cell under one condition."""
    return Curve(**{name: np.asarray(cell[f"{condition}.{name}"], np.float64) for name in CURVE})
