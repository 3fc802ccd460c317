"""A path as a table writes it -> the file below a folder that it means.

Tables come from other machines: with backslashes, with the whole path, with letters composed in
another way (macOS writes file names in Unicode's form NFD, nearly everything else in NFC) or in
another case. A name that is there as written always comes first.
"""

from __future__ import annotations

import os
import posixpath
import unicodedata
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
        """Return the path relative to the root, as it is on disk; as written if nothing is."""
        for text in (written, written.replace("\\", "/")):
            for prefix in self._prefixes:
                text = text.removeprefix(prefix)
            name = posixpath.normpath(text)
            if (found := self._spelled(name)) is not None:
                return found
        return name

    def _spelled(self, name: str) -> str | None:
        """Return a relative path in the spelling of the disk, None where nothing is there."""
        parent, slash, last = name.rpartition("/")
        folder = self._folder(parent) if parent else None if slash else ""
        if folder is None:
            return None
        names, composed = self._names(folder), unicodedata.normalize("NFC", last)
        actual = names.get(last) or names.get(composed) or names.get(composed.casefold())
        return posixpath.join(folder, actual) if actual else None

    def _list(self, folder: str) -> dict[str, str]:
        """Return the names in a folder by themselves, and by other forms that mean but one."""
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
