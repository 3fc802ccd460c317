"""A data set -> ``Finding`` rows: what would make its results worthless, found before any work.

``check_manifest`` looks at names, labels and kinds of paths without decoding; ``check_content``
compares decoded content by hash. Errors stop a run (``raise_on_errors``), warnings are shown. A
broken recording is neither: decoding finds it and quarantines it.
"""

from __future__ import annotations

import errno
import math
import os
import re
import stat
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from xmoe.audio.dataset import Dataset, Example
from xmoe.base.errors import DatasetError
from xmoe.storage.mirror import is_address, local_path

Severity = Literal["error", "warning"]

SHOWN_FILES = 3

# What each code means: the message, and what to do.
ERRORS: dict[str, tuple[str, str]] = {
    "leaves_root": (
        "paths leave the data set's folder",
        "write paths relative to it, and copy linked files into it (cp -rL SET COPY)",
    ),
    "link_loop": ("links lead back to themselves", "replace the links with the files"),
    "not_a_file": ("these are folders, pipes or devices", "name audio files"),
    "all_missing": (
        "none of the files exist",
        "check that paths are relative to the data set's folder",
    ),
    "unicode_twins": (
        "names look the same but are spelled differently",
        "rename the files so that each name is written one way (Unicode NFC)",
    ),
    "two_labels": (
        "clips are listed with different labels",
        "keep one row per clip; several labels of one clip are written a;b",
    ),
    "listed_twice": ("clips are listed more than once", "keep one row per clip"),
    "group_in_test_and_train": (
        "groups are both in test and outside it",
        "move each group to one split",
    ),
    "overlap_of_test_and_train": (
        "parts of a file overlap in time, one in test and one outside it",
        "give each file to one split",
    ),
    "one_class": ("there is only one class", "add recordings of something else"),
    "content_in_test_and_train": (
        "the same sound is in test and outside it",
        "keep one copy of each recording",
    ),
    "content_with_two_labels": (
        "the same sound has different labels",
        "keep one copy with the right label",
    ),
}
WARNINGS: dict[str, tuple[str, str]] = {
    "missing": ("files are missing and will be left out", "check the paths, or remove the rows"),
    "group_in_val_and_train": ("groups are in train and in val", "move each group to one split"),
    "file_in_test_and_train": (
        "files have parts in test and outside it",
        "give each file to one split",
    ),
    "classes_alike": (
        "classes differ only in case, spaces or dashes",
        "write each class one way, unless they are meant to differ",
    ),
    "class_not_in_train": ("classes have no training clips", "move some of their clips to train"),
    "class_not_in_test": (
        "classes have no test clips, so their accuracy will not be known",
        "move some of their clips to test",
    ),
    "silent": (
        "recordings hold no sound, or their channels cancel each other",
        "leave them out, or record them again",
    ),
    "content_twice": ("the same sound occurs more than once", "keep one copy of each recording"),
}
RULES: dict[str, tuple[Severity, str, str]] = {
    **{code: ("error", *texts) for code, texts in ERRORS.items()},
    **{code: ("warning", *texts) for code, texts in WARNINGS.items()},
}


@dataclass(frozen=True)
class Finding:
    """One problem: how bad it is, its code in ``RULES``, the message and the remedy.

    ``files`` names everything affected: clip ids or files, for some codes groups or classes.
    """

    severity: Severity
    code: str
    message: str
    files: tuple[str, ...]
    mend: str

    def __str__(self) -> str:
        shown = ", ".join(self.files[:SHOWN_FILES])
        more = len(self.files) - SHOWN_FILES
        return f"{self.message}: {shown}{f' and {more} more' if more > 0 else ''} ({self.mend})"


def check_manifest(dataset: Dataset) -> list[Finding]:
    """Check names, labels, groups and paths without decoding anything; errors come first."""
    checks: tuple[Callable[[Dataset], Iterable[Finding]], ...] = (
        _check_paths,
        _check_twins,
        _check_clip_ids,
        _check_groups,
        _check_overlaps,
        _check_classes,
    )
    findings = [finding for check in checks for finding in check(dataset)]
    return sorted(findings, key=lambda finding: finding.severity == "warning")


def check_content(
    dataset: Dataset, hashes: Mapping[str, str], silent: Collection[str] = ()
) -> list[Finding]:
    """Find clips with the same decoded content; ``hashes`` maps clip ids to ``content_sha256``.

    Clips without a hash (they could not be decoded) are skipped. ``silent`` clips are reported as
    such, not as copies of each other.
    """
    same: dict[str, list[Example]] = defaultdict(list)
    for example in dataset.examples:
        if example.clip_id in hashes and example.clip_id not in silent:
            same[hashes[example.clip_id]].append(example)
    found: dict[str, list[str]] = defaultdict(list)
    for examples in same.values():
        names = {example.clip_id for example in examples}
        if len(names) > 1:
            for code in _judge_copies(examples):
                found[code] += names
    found["silent"] += silent
    codes = ("content_in_test_and_train", "content_with_two_labels", "content_twice", "silent")
    return [finding for code in codes for finding in _found(code, found[code])]


def raise_on_errors(findings: Sequence[Finding]) -> None:
    """Raise one ``DatasetError`` that lists every finding of severity ``error``, if any."""
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        raise DatasetError("\n".join(str(finding) for finding in errors))


def _found(code: str, files: Iterable[str]) -> Iterator[Finding]:
    """One finding for the files, sorted and without repeats; none for no files."""
    names = tuple(sorted(set(files)))
    if names:
        severity, message, mend = RULES[code]
        yield Finding(severity, code, message, names, mend)


def _judge_copies(examples: Sequence[Example]) -> Iterator[str]:
    """The codes of what is wrong with clips of one content."""
    splits = {example.split for example in examples}
    leaks = "test" in splits and len(splits) > 1
    disputed = len({frozenset(example.labels) for example in examples}) > 1
    if leaks:
        yield "content_in_test_and_train"
    if disputed:
        yield "content_with_two_labels"
    if not leaks and not disputed:
        yield "content_twice"


def _check_paths(dataset: Dataset) -> Iterator[Finding]:
    """Find paths that leave the root, loop, are not regular files, or do not exist."""
    root = dataset.root.resolve()
    # A snapshot of the Hugging Face hub links to the blobs beside it, which belong to the set.
    stores = [up.parent / "blobs" for up in root.parents if up.name == "snapshots"]
    kinds: dict[str, list[str]] = defaultdict(list)
    paths = {example.filepath for example in dataset.examples}
    for filepath in paths:
        kinds[_path_kind((root, *stores), filepath)].append(filepath)
    for code in ("leaves_root", "link_loop", "not_a_file"):
        yield from _found(code, kinds[code])
    everything = len(kinds["missing"]) == len(paths)
    yield from _found("all_missing" if everything else "missing", kinds["missing"])


def _path_kind(roots: Sequence[Path], filepath: str) -> str:
    """A code of ``RULES``, or ``file`` for a regular file inside ``roots``."""
    if is_address(filepath):
        return "file" if local_path(filepath).is_file() else "missing"
    relative = PurePosixPath(filepath)
    if relative.is_absolute() or ".." in relative.parts:
        return "leaves_root"
    path = roots[0] / relative
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        if getattr(error, "errno", None) == errno.ELOOP:
            return "link_loop"
        return "leaves_root" if path.is_symlink() and not _inside(roots, path) else "missing"
    if not _inside(roots, path):
        return "leaves_root"
    return "file" if stat.S_ISREG(mode) else "not_a_file"


def _inside(roots: Sequence[Path], path: Path) -> bool:
    real = Path(os.path.realpath(path))
    return any(real.is_relative_to(root) for root in roots)


def _check_twins(dataset: Dataset) -> Iterator[Finding]:
    """Find names that differ only in Unicode normalisation."""
    spellings: dict[str, set[str]] = defaultdict(set)
    for example in dataset.examples:
        spellings[unicodedata.normalize("NFC", example.filepath)].add(example.filepath)
    twins = (name for names in spellings.values() if len(names) > 1 for name in names)
    yield from _found("unicode_twins", twins)


def _check_clip_ids(dataset: Dataset) -> Iterator[Finding]:
    listed: dict[str, list[frozenset[str]]] = defaultdict(list)
    for example in dataset.examples:
        listed[example.clip_id].append(frozenset(example.labels))
    repeated = {name: labels for name, labels in listed.items() if len(labels) > 1}
    disputed = {name for name, labels in repeated.items() if len(set(labels)) > 1}
    yield from _found("two_labels", disputed)
    yield from _found("listed_twice", repeated.keys() - disputed)


def _check_groups(dataset: Dataset) -> Iterator[Finding]:
    """Find groups (one ship, one speaker) that are on both sides of a split."""
    splits: dict[str, set[str]] = defaultdict(set)
    for example in dataset.examples:
        if example.group is not None:
            splits[example.group].add(example.split)
    both = {group: sides for group, sides in splits.items() if len(sides) > 1}
    tested = {group for group, sides in both.items() if "test" in sides}
    yield from _found("group_in_test_and_train", tested)
    yield from _found("group_in_val_and_train", both.keys() - tested)


def _check_overlaps(dataset: Dataset) -> Iterator[Finding]:
    """Find files with parts in test and outside it; worse if the parts overlap in time."""
    parts: dict[str, list[Example]] = defaultdict(list)
    for example in dataset.examples:
        parts[example.filepath].append(example)
    found: dict[str, list[str]] = defaultdict(list)
    for filepath, examples in parts.items():
        splits = {example.split for example in examples}
        if "test" in splits and len(splits) > 1:
            overlap = _sides_overlap(examples)
            code = "overlap_of_test_and_train" if overlap else "file_in_test_and_train"
            found[code].append(filepath)
    for code in ("overlap_of_test_and_train", "file_in_test_and_train"):
        yield from _found(code, found[code])


def _sides_overlap(examples: Sequence[Example]) -> bool:
    """Whether a part in test and a part outside it share some time of their file."""
    reach = {True: 0.0, False: 0.0}
    for example in sorted(examples, key=lambda example: example.start_s):
        tested = example.split == "test"
        if reach[not tested] > example.start_s:
            return True
        end_s = math.inf if example.end_s is None else example.end_s
        reach[tested] = max(reach[tested], end_s)
    return False


def _check_classes(dataset: Dataset) -> Iterator[Finding]:
    """Find a single class, classes that look alike, and those missing from train or test."""
    spellings: dict[str, set[str]] = defaultdict(set)
    for name in dataset.classes:
        spellings[re.sub(r"[\s_-]+", "", name).casefold()].add(name)
    alike = (name for names in spellings.values() if len(names) > 1 for name in names)
    yield from _found("classes_alike", alike)
    trained, tested = (
        {name for example in dataset.split(split) for name in example.labels}
        for split in ("train", "test")
    )
    if not trained:
        return
    if len(dataset.classes) < 2 and dataset.task == "single_label":
        yield from _found("one_class", dataset.classes)
    yield from _found("class_not_in_train", tested - trained)
    if tested:
        yield from _found("class_not_in_test", trained - tested)
