"""A folder (and a manifest) -> ``Dataset``: examples with labels and splits, ready to decode.

Nothing is decoded here. Missing splits are made, grouped and stratified; every such decision is
kept as a note in plain words for the report.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from xmoe.audio.copies import find_copies
from xmoe.audio.layouts import Entry, Layout
from xmoe.audio.remote import fetch_layout, fetch_named, locate
from xmoe.audio.splits import hold_out
from xmoe.base.config import TaskName
from xmoe.base.errors import DatasetError
from xmoe.base.progress import Progress, silent
from xmoe.storage.mirror import is_address, local_path

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Example:
    """One labelled recording, or its part from ``start_s`` to ``end_s``.

    ``filepath`` is relative to the data set's root, with ``/`` between folders, or an address.
    ``row`` is its line in the manifest. ``copy_of`` is the first of several identical files.
    """

    filepath: str
    split: str
    labels: tuple[str, ...]
    start_s: float = 0.0
    end_s: float | None = None
    group: str | None = None
    row: int = 0
    copy_of: str | None = None

    @property
    def clip_id(self) -> str:
        """The path, with ``@start-end`` for a part of a file."""
        if self.start_s == 0.0 and self.end_s is None:
            return self.filepath
        end = "" if self.end_s is None else f"{self.end_s:.10g}"
        return f"{self.filepath}@{self.start_s:.10g}-{end}"

    @property
    def group_key(self) -> str:
        """What must stay on one side of a split: the group, else the file."""
        return self.copy_of or self.filepath if self.group is None else f"group {self.group}"


@dataclass(frozen=True)
class Dataset:
    """Examples, the order of their classes, the task, and notes on what was assumed.

    ``elsewhere`` gives the folder of clips, by id, that are not below ``root``.
    ``source`` is the address that ``root`` was fetched from, empty where it was not.
    """

    root: Path
    examples: tuple[Example, ...]
    classes: tuple[str, ...]
    task: TaskName
    notes: tuple[str, ...] = ()
    elsewhere: Mapping[str, Path] = field(default_factory=dict)
    source: str = ""

    @property
    def groups(self) -> dict[str, str]:
        """The ``group_key`` of each clip, by id."""
        return {example.clip_id: example.group_key for example in self.examples}

    def split(self, name: str) -> tuple[Example, ...]:
        """The examples of ``train``, ``val`` or ``test`` in manifest order."""
        if name not in SPLITS:
            raise DatasetError(f"there is no split {name!r}", mend="use train, val or test")
        return tuple(example for example in self.examples if example.split == name)

    def path(self, example: Example) -> Path:
        """The example's file; refuses a path whose text leaves the root."""
        relative = PurePosixPath(example.filepath)
        if relative.is_absolute() or ".." in relative.parts:
            mend = "write paths relative to the data set's folder, without .."
            raise DatasetError("the path leaves the data set", where=example.filepath, mend=mend)
        return locate(self.elsewhere.get(example.clip_id, self.root), example.filepath)

    def fetch(self) -> Dataset:
        """The set on this machine, to which what is in an object store is fetched."""
        fetch_named(self.source, {example.filepath for example in self.examples})
        return replace(self, root=local_path(self.source)) if self.source else self

    def targets(self, examples: Sequence[Example]) -> npt.NDArray[np.int64 | np.float32]:
        """Class indices [n] int64, or for multi label 0/1 rows [n, C] float32."""
        index = {name: i for i, name in enumerate(self.classes)}
        if self.task == "single_label":
            return np.array([index[example.labels[0]] for example in examples], dtype=np.int64)
        rows = np.zeros((len(examples), len(self.classes)), dtype=np.float32)
        for row, example in zip(rows, examples, strict=True):
            row[[index[name] for name in example.labels]] = 1.0
        return rows


def load_dataset(
    root: str | Path,
    metadata: str | Path | None = None,
    *,
    test_fold: int | None = None,
    task: TaskName | None = None,
    val_fraction: float = 0.15,
    seed: int = 0,
    progress: Progress = silent,
) -> Dataset:
    """Read a data set in any accepted layout (see ``xmoe.audio.layouts``), here or at an address.

    ``metadata`` names the manifest; without it, ``metadata.csv`` and its kin are tried, then class
    folders. ``test_fold`` picks the test fold of a manifest with a ``fold`` column. ``task`` is
    ``multi_label`` if any cell reads ``a;b``, unless given. If val (or test) is missing,
    ``val_fraction`` of train becomes it. Raises ``DatasetError``.
    """
    if not 0.0 < val_fraction < 0.5:
        raise DatasetError(f"val_fraction is {val_fraction:g}", mend="use a number from 0 to 0.5")
    here, layout = fetch_layout(root, metadata, progress=progress)
    several = any(len(entry.labels) > 1 for entry in layout.entries)
    task = task or ("multi_label" if several else "single_label")
    _check_labels(layout, task)
    notes = list(layout.notes)
    examples = _assign_folds(layout, test_fold, notes)
    if not set(SPLITS) <= {example.split for example in examples}:
        examples = _tie_copies(examples, here, notes)
    for missing in ("test", "val"):
        examples = _make_split(examples, missing, val_fraction, seed, notes, layout.source)
    classes = sorted({name for example in examples for name in example.labels}, key=natural_key)
    source = str(root) if is_address(root) else ""
    return Dataset(
        here.resolve(), tuple(examples), tuple(classes), task, tuple(notes), source=source
    )


def empty_dataset(root: str | Path, classes: tuple[str, ...], task: TaskName) -> Dataset:
    """A set of which only the place is known, a folder or an address."""
    source = str(root) if is_address(root) else ""
    here = local_path(source) if source else Path(root)
    return Dataset(here.resolve(), (), classes, task, source=source)


def load_more(
    root: str | Path,
    metadata: str | Path | None,
    task: TaskName,
    *,
    progress: Progress = silent,
) -> Dataset:
    """Read clips to add to a set: no split is made, clips without one are for training."""
    here, layout = fetch_layout(root, metadata, progress=progress)
    _check_labels(layout, task)
    examples = [_as_example(entry, entry.split or "train", entry.group) for entry in layout.entries]
    classes = sorted({name for example in examples for name in example.labels}, key=natural_key)
    return Dataset(here.resolve(), tuple(examples), tuple(classes), task, layout.notes)


def natural_key(text: str) -> tuple[tuple[tuple[int, int, str], ...], str]:
    """A sort key that puts ``9`` before ``10`` and is total."""
    parts = re.findall(r"[0-9]+|[^0-9]+", text)
    key = tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts)
    return key, text


def _check_labels(layout: Layout, task: TaskName) -> None:
    for entry in layout.entries:
        if task == "single_label" and len(entry.labels) != 1:
            where = f"{layout.source} line {entry.row}"
            what = f"{entry.filepath} has {len(entry.labels)} labels, the task takes one"
            mend = "write one label, or choose the task multi_label (labels as a;b)"
            raise DatasetError(what, where=where, mend=mend)
    if not any(entry.labels for entry in layout.entries):
        mend = "fill the label column"
        raise DatasetError("no recording has a label", where=str(layout.source), mend=mend)


def _assign_folds(layout: Layout, test_fold: int | None, notes: list[str]) -> list[Example]:
    """Turn entries into examples.

    A ``fold`` column decides the test set if ``test_fold`` is given or there is no ``split``.
    """
    entries = layout.entries
    has_folds = all(entry.fold is not None for entry in entries)
    if test_fold is None and any(entry.split is not None for entry in entries):
        has_folds = False
    folds = sorted({entry.fold for entry in entries if entry.fold is not None})
    if not has_folds:
        if test_fold is not None:
            what = f"test fold {test_fold} was asked for, but not every row has a 'fold'"
            mend = "leave --test-fold out, or add a column fold"
            raise DatasetError(what, where=str(layout.source), mend=mend)
        return [_as_example(entry, entry.split or "train", entry.group) for entry in entries]
    if test_fold is None:
        test_fold = folds[-1]
        notes.append(f"no test fold was chosen: fold {test_fold} is the test set")
    if test_fold not in folds:
        what = f"there is no fold {test_fold}; the folds are {', '.join(map(str, folds))}"
        raise DatasetError(what, where=str(layout.source), mend="choose one of them")
    return [
        _as_example(
            entry,
            "test" if entry.fold == test_fold else "train",
            f"fold {entry.fold}" if entry.group is None else entry.group,
        )
        for entry in entries
    ]


def _as_example(entry: Entry, split: str, group: str | None) -> Example:
    span = (entry.start_s, entry.end_s)
    return Example(entry.filepath, split, entry.labels, *span, group=group, row=entry.row)


def _tie_copies(examples: list[Example], root: Path, notes: list[str]) -> list[Example]:
    """Note which files are copies, so that the split made here keeps them together.

    Files in a named group are left alone: the user has said what belongs together.
    """
    free = {example.filepath for example in examples if example.group is None}
    copies = find_copies(root, free)
    if not copies:
        return examples
    again = sorted(name for name, first in copies.items() if name != first)
    shown = ", ".join(again[:3]) + (" ..." if again[3:] else "")
    notes.append(
        f"{len(again)} files are copies of others, byte for byte ({shown}): they are kept on one "
        f"side of the split; remove them, or figures count these recordings more than once"
    )
    return [replace(example, copy_of=copies.get(example.filepath)) for example in examples]


def _make_split(
    examples: list[Example],
    missing: str,
    fraction: float,
    seed: int,
    notes: list[str],
    source: Path,
) -> list[Example]:
    """Move part of train to the ``missing`` split, unless it exists or there is no train."""
    train = [i for i, example in enumerate(examples) if example.split == "train"]
    if not train or any(example.split == missing for example in examples):
        return examples
    mask = hold_out(
        [examples[i].group_key for i in train],
        [examples[i].labels for i in train],
        fraction=fraction,
        seed=seed,
    )
    chosen = {i for i, held in zip(train, mask, strict=True) if held}
    if not chosen:
        what = f"no {missing} split is given and none can be made: every class is one group or clip"
        mend = "add recordings, or a split column with train, val and test"
        raise DatasetError(what, where=str(source), mend=mend)
    grouped = any(examples[i].group is not None for i in train)
    notes.append(
        f"no {missing} split was given: {len(chosen)} of {len(train)} clips of train were set "
        f"aside for it, classes in proportion, "
        + ("groups kept whole" if grouped else "parts of one file kept together")
        + f" (seed {seed})"
    )
    return [
        replace(example, split=missing) if i in chosen else example
        for i, example in enumerate(examples)
    ]
