"""Names of recordings -> which of them share a source, so that they are held out together.

Where a manifest has no ``group`` column, the split itself often tells: if speakers were held out,
some part of the file names (the speaker) never occurs in both training and validation. The coarsest
such part is taken as the source. A part that is unique to each clip changes nothing, so a wrong
guess only makes held-out answers more careful.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from xmoe.audio.dataset import Example

LEAST_SOURCES = 3
_SEPARATORS = re.compile(r"[_\-. /@]+")


def find_sources(examples: Sequence[Example]) -> tuple[list[str], str]:
    """The source of each training and validation example, and in words how it was found.

    Every class must have clips of at least two sources; otherwise held-out answers never see it.
    """
    if any(example.group is not None for example in examples):
        return [example.group_key for example in examples], "the manifest's groups"
    best: tuple[int, str, list[str]] | None = None
    for words, keys in _name_parts(examples):
        count = len(set(keys))
        usable = LEAST_SOURCES <= count < len(keys) and _parts_splits(examples, keys)
        if usable and _spans_classes(examples, keys) and (best is None or count < best[0]):
            best = (count, words, keys)
    if best is None:
        return [example.group_key for example in examples], "single recordings"
    count, words, keys = best
    return keys, f"{words} of the file names, {count} sources, as the split keeps them apart"


def _name_parts(examples: Sequence[Example]) -> list[tuple[str, list[str]]]:
    """The parts that all names have: each field alone, and the first few together."""
    stems = [PurePosixPath(example.filepath).stem for example in examples]
    fields = [_SEPARATORS.split(stem) for stem in stems]
    count = min(map(len, fields), default=0)
    parts = [(f"field {place + 1}", [row[place] for row in fields]) for place in range(count)]
    for length in range(2, count):
        keys = ["_".join(row[:length]) for row in fields]
        parts.append((f"the first {length} fields", keys))
    return parts


def _parts_splits(examples: Sequence[Example], keys: Sequence[str]) -> bool:
    """Whether there are at least two splits and none shares a source with another."""
    owner: dict[str, str] = {}
    for example, key in zip(examples, keys, strict=True):
        if owner.setdefault(key, example.split) != example.split:
            return False
    return len(set(owner.values())) > 1


def _spans_classes(examples: Sequence[Example], keys: Sequence[str]) -> bool:
    sources: dict[str, set[str]] = {}
    for example, key in zip(examples, keys, strict=True):
        for label in example.labels:
            sources.setdefault(label, set()).add(key)
    return min(map(len, sources.values()), default=0) > 1
