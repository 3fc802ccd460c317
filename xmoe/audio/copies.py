"""Files -> which of them are byte-for-byte copies, before anything is decoded.

``bird (copy).wav`` beside ``bird.wav`` could end up in train and test if the split is random. Sizes
are compared first, then a few kilobytes; only files that still match are read in full.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

from xmoe.audio.remote import locate

_PROBE = 1 << 12


def find_copies(root: Path, names: Iterable[str]) -> dict[str, str]:
    """The first name of every file that occurs more than once, by each of its names.

    Names are relative to ``root``, or addresses whose files were fetched. Empty and unreadable
    files have no copies.
    """
    alike = [sorted(set(names))]
    for tell in (_size, _probe, _content):
        alike = [group for names in alike for group in _group(root, names, tell)]
    return {name: group[0] for group in alike for name in group}


def _group(root: Path, names: list[str], tell: Callable[[Path], object]) -> list[list[str]]:
    """Groups of two or more names for which ``tell`` gives the same."""
    groups: dict[object, list[str]] = defaultdict(list)
    for name in names:
        try:
            groups[tell(locate(root, name))].append(name)
        except (OSError, ValueError):
            continue
    return [group for group in groups.values() if len(group) > 1]


def _size(path: Path) -> object:
    size = path.stat().st_size
    if size == 0:
        raise ValueError("nothing to compare")
    return size


def _probe(path: Path) -> object:
    """A few kilobytes from the middle and the end; the heads of recordings are alike."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(size // 2)
        middle = file.read(_PROBE)
        file.seek(max(size - _PROBE, 0))
        return middle, file.read(_PROBE)


def _content(path: Path) -> object:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
