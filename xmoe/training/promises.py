"""Held-out answers of a mixture -> the promises of its router, and what any price would bring.

The table of held-out answers is kept with a run, so that another budget, other costs or one expert
less need neither recordings nor a fit of heads.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import Tensor

from xmoe.base.config import ASK_ALL
from xmoe.base.errors import RunFolderError
from xmoe.base.files import TRAIN_AGAIN, to_json
from xmoe.base.task import Task
from xmoe.experts.probabilities import log_losses
from xmoe.experts.ridge import Floats, Ints
from xmoe.mixture.promise_router import GLANCED, STEM_NAME, renew_evidence, tabulate_shares
from xmoe.routing.promise import Promises
from xmoe.routing.stack import Stack
from xmoe.training.closed import rightness
from xmoe.training.pieces import CopyName
from xmoe.training.promise import Depths, ask_rows, fit_promises
from xmoe.training.reading import choose_reading
from xmoe.training.stack import HeldOut

COPIES: tuple[CopyName, ...] = ("whole", "noisy")
# Right or wrong says little of few clips: an answer that just fails counts as one far off. Of 1,
# 0.7, 0.5, 0.3 and 0.15, half the temperature routes best on held-out clips (docs/ablation.md has
# it beside right or wrong).
SOFTNESS = 0.5
_INDEX, _NAMES, _CLIPS = "index", "names", "clips"
_ARRAYS = ("logits", "glance", "rows", "units", "clips")


@dataclass(frozen=True)
class HeldTable:
    """Answers of stem and experts to n segments they were not fitted on, clean and under noise.

    ``names`` are the stem and the experts in the order in which they are asked; ``logits`` [1 + E,
    2, n, C] are theirs, ``glance`` [2, n, G] what the router saw, ``rows`` [n, C] the truth in 0
    and 1, ``units`` [n] the sources, ``clips`` [n] counts the recordings, whose ids are
    ``clip_ids``.
    """

    names: tuple[str, ...]
    logits: Floats
    glance: Floats
    rows: Floats
    units: Ints
    clips: Ints
    clip_ids: tuple[str, ...]
    task: Task

    def glances(self) -> dict[str, Floats]:
        """What the router saw of each recording [2, r, G], by its id."""
        ends = np.flatnonzero(np.diff(self.clips)) + 1
        return dict(zip(self.clip_ids, np.split(self.glance, ends, axis=1), strict=True))

    @property
    def experts(self) -> tuple[str, ...]:
        return self.names[1:]

    def keep(self, experts: Sequence[str]) -> HeldTable:
        """The table with the stem and these experts alone, in this order."""
        names = (STEM_NAME, *experts)
        logits = self.logits[[self.names.index(name) for name in names]]
        return replace(self, names=names, logits=logits)

    def hold(self) -> HeldOut:
        logits = dict(zip(self.names, self.logits[:, 0], strict=True))
        return HeldOut(logits, self.rows, self.units, self.task)

    def to_bytes(self) -> bytes:
        """The content of a safetensors file; the task is in the run's settings."""
        # One entry: of several the library writes now one first, now another.
        said = {_INDEX: to_json({_NAMES: self.names, _CLIPS: self.clip_ids})}
        arrays = {name: np.ascontiguousarray(getattr(self, name)) for name in _ARRAYS}
        arrays["logits"] = arrays["logits"].astype(np.float32)
        arrays["glance"] = arrays["glance"].astype(np.float32)
        return save(arrays, metadata=said)


def read_table(path: Path, experts: Sequence[str], task: Task) -> HeldTable:
    """Read what ``HeldTable.to_bytes`` made, for these experts alone.

    The file may hold others. Raises RunFolderError where it is damaged.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            names, ids = _read_index(file.metadata() or {})
            arrays = {name: file.get_tensor(name) for name in _ARRAYS}
    except (OSError, SafetensorError) as error:
        raise RunFolderError(
            f"not a whole safetensors file: {error}", where=str(path), mend=TRAIN_AGAIN
        ) from error
    count, copies, rows, classes = arrays["logits"].shape
    whole = count == len(names) and copies == len(COPIES)
    if not whole or not {STEM_NAME, *experts} <= set(names):
        raise RunFolderError(
            "the held-out answers are those of other experts", where=str(path), mend=TRAIN_AGAIN
        )
    if arrays["rows"].shape != (rows, classes):
        raise RunFolderError("numbers disagree", where=str(path), mend=TRAIN_AGAIN)
    logits, glance, truth = (arrays[name].astype(np.float64) for name in _ARRAYS[:3])
    units, clips = arrays["units"], arrays["clips"]
    return HeldTable(names, logits, glance, truth, units, clips, ids, task).keep(experts)


def _read_index(said: Mapping[str, str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of stem and experts, and ids of the recordings; earlier releases kept them apart."""
    index = json.loads(said.get(_INDEX, "{}"))
    names, ids = (index.get(key) or json.loads(said.get(key, "[]")) for key in (_NAMES, _CLIPS))
    return tuple(names), tuple(ids)


@dataclass(frozen=True)
class Promised:
    """The router's promises, and what is known of held-out segments at every depth.

    ``mixed`` [K + 1, n, C] are the answers by depth, before any temperature, ``rows`` [n, C] the
    truth; ``clean`` are the rows without noise, of the recordings ``clips``. ``folds`` hold
    promises that were fitted without the sources of some rows; ``reading`` says what they read.
    """

    promises: Promises
    depths: Depths
    mixed: Floats
    rows: Floats
    clean: Ints
    clips: Ints
    folds: tuple[tuple[Ints, Promises], ...]
    reading: str
    task: Task

    def asked_at(self, price: float) -> Ints:
        """How many experts each row asks at a price."""
        if price <= ASK_ALL or not self.folds:
            return np.full(len(self.rows), len(self.depths.order), dtype=np.int64)
        return ask_rows(self.folds, self.depths, price)


def promise(table: HeldTable, stacks: Sequence[Stack], ms: Mapping[str, float]) -> Promised:
    """Fit promises for experts that cost ``ms`` by name; ``stacks[k]`` weighs the first k."""
    described = [describe_depths(table, stacks, copy) for copy in range(len(COPIES))]
    mixed = np.concatenate([answers for _, answers in described], axis=1)
    rows = np.concatenate([table.rows] * len(COPIES))
    depths = Depths(
        table.experts,
        tuple(ms[name] for name in table.experts),
        tuple(np.concatenate(pair) for pair in zip(*(seen for seen, _ in described), strict=True)),
        np.stack([rightness(one, rows, table.task) for one in mixed], axis=1),
        np.concatenate([table.units] * len(COPIES)),
        np.stack([soften(one, rows, table.task) for one in mixed], axis=1),
    )
    reading = choose_reading(depths, spare=GLANCED)
    return Promised(
        promises=fit_promises(reading.depths, first_most=reading.first_most),
        depths=depths,
        mixed=mixed,
        rows=rows,
        clean=np.arange(len(table.rows)),
        clips=table.clips,
        folds=reading.folds,
        reading=reading.reason,
        task=table.task,
    )


def soften(answers: Floats, rows: Floats, task: Task) -> Floats:
    """How right answers [n, C] are [n], without a step from wrong to right.

    The probability that they give to the truth at half the temperature. Of several labels each
    counts already.
    """
    if not task.exclusive:
        return rightness(answers, rows, task)
    believed: Floats = np.exp(-log_losses(answers / SOFTNESS, rows, task))
    return believed


def describe_depths(
    table: HeldTable, stacks: Sequence[Stack], copy: int
) -> tuple[list[Floats], Floats]:
    """Evidence [n, G] at each depth, and the mixed answers [K + 1, n, C]."""
    said, glance = torch.from_numpy(table.logits[:, copy]), torch.from_numpy(table.glance[copy])
    shares = tabulate_shares(stacks, table.experts).double()
    evidence, mixed = [table.glance[copy]], mix_depths(said, shares)
    for depth in range(1, len(said)):
        own = renew_evidence(glance, said[: depth + 1], mixed[depth], table.task)
        evidence.append(own.numpy())
    return evidence, mixed.numpy()


def mix_depths(said: Tensor, shares: Tensor) -> Tensor:
    """Answers [K + 1, n, C] of the stem with the first 0, 1, ... experts, from all [1 + K, n, C].

    ``shares`` [K + 1, 1 + K] are the router's.
    """
    mixed = []
    for depth in range(len(said)):
        weights = shares[depth, : depth + 1]
        mixed.append(torch.tensordot(weights / weights.sum(), said[: depth + 1], dims=1))
    return torch.stack(mixed)
