"""A path as a table writes it -> the file below a folder that it means.

Tables come from other machines: with backslashes, with absolute paths, with letters composed
differently (macOS writes file names in Unicode form NFD, nearly everything else in NFC), in another
case. A name that exists as written always wins.
"""

from __future__ import annotations

import os
import posixpath
import unicodedata
from collections.abc import Sequence
from functools import cache
from pathlib import Path


class Finder:
    """Finds files below ``root``; every folder is listed once."""

    def __init__(self, root: Path) -> None:
        self._root = root
        whole = {root.absolute().as_posix(), Path(os.path.realpath(root)).as_posix()}
        self._prefixes = tuple(f"{path.rstrip('/')}/" for path in whole)
        self._names = cache(self._list)
        self._folder = cache(self._spelled)

    def find(self, written: str) -> str:
        """The path relative to the root, as it is on disk; as written if nothing is there."""
        names = self._forms(written)
        return next(filter(None, map(self._spelled, names)), names[-1])

    def find_beside(
        self, names: Sequence[str], folders: Sequence[str], prefix: str = ""
    ) -> list[str]:
        """The paths of names that may be in the folder that a table gives beside each.

        Such a column may mean something else, so it is believed only if it leads to a file for at
        least one row; then a bare name is not looked for elsewhere. All names begin with
        ``prefix``, which comes before the folder.
        """
        pairs = zip(names, folders, strict=True)
        inside = [f"{prefix}{folder}/{name.removeprefix(prefix)}" for name, folder in pairs]
        there = [
            bool(folder) and self.holds(path) for folder, path in zip(folders, inside, strict=True)
        ]
        meant, found = any(there), []
        for name, folder, path, is_there in zip(names, folders, inside, there, strict=True):
            whole = "/" in name.removeprefix(prefix).replace("\\", "/") and self.holds(name)
            beside = meant and folder and (is_there or not whole)
            found.append(self.find(path if beside else name))
        return found

    def holds(self, written: str) -> bool:
        return any(self._spelled(name) is not None for name in self._forms(written))

    def _forms(self, written: str) -> list[str]:
        """What a path may mean below the root: as written, and with its slashes turned."""
        forms = []
        for text in (written, written.replace("\\", "/")):
            for prefix in self._prefixes:
                text = text.removeprefix(prefix)
            forms.append(posixpath.normpath(text))
        return forms

    def _spelled(self, name: str) -> str | None:
        """A relative path as spelled on disk, None if nothing is there."""
        parent, slash, last = name.rpartition("/")
        folder = self._folder(parent) if parent else None if slash else ""
        if folder is None:
            return None
        names, composed = self._names(folder), unicodedata.normalize("NFC", last)
        actual = names.get(last) or names.get(composed) or names.get(composed.casefold())
        return posixpath.join(folder, actual) if actual else None

    def _list(self, folder: str) -> dict[str, str]:
        """The names in a folder by themselves and by other spellings that are unambiguous."""
        try:
            names = [path.name for path in (self._root / folder).iterdir()]
        except (OSError, ValueError):
            return {}
        meant: dict[str, set[str]] = {}
        for name in names:
            composed = unicodedata.normalize("NFC", name)
            for form in {composed, composed.casefold()}:
                meant.setdefault(form, set()).add(name)
        others = {form: min(found) for form, found in meant.items() if len(found) == 1}
        return {**others, **{name: name for name in names}}
