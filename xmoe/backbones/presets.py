"""Networks that people use, by name: a card for each, and where to get its files.

No weights lie here and none are downloaded. Two presets find their files in an installed package;
for the others the user brings the files. ``tried`` marks those that were run on their real weights
when the card was written; the other cards follow papers and model cards. They are in
``presets.toml``.
"""

from __future__ import annotations

import shutil
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from xmoe.backbones.files import hash_file
from xmoe.base.backbone import BackboneCard
from xmoe.base.errors import ConfigError
from xmoe.base.files import storage_errors, write_bytes

Fields = dict[str, Any]


@dataclass(frozen=True)
class Preset:
    """A card without the places of its files, and how to get these.

    ``golden`` holds for files with the hashes given here alone.
    """

    fields: Fields
    files: Sequence[Fields]
    get: str
    package: str = ""
    folder: str = ""
    tried: bool = False
    golden: Sequence[float] = ()


@cache
def read_presets() -> dict[str, Preset]:
    text = resources.files("xmoe.backbones").joinpath("presets.toml").read_text(encoding="utf-8")
    return {name: Preset(**fields) for name, fields in tomllib.loads(text).items()}


def find_preset(name: str) -> Preset:
    presets = read_presets()
    if name not in presets:
        known = f"one of {', '.join(presets)}; any other network needs a card of its own"
        raise ConfigError(f"no preset called {name!r}", where="backbone init", mend=known)
    return presets[name]


def find_weights(name: str, given: Sequence[Path] = ()) -> list[Path] | None:
    """A preset's files: those ``given``, or in its package; None where one is not there.

    A folder that is given holds them by their names; one file by another name is the one meant.
    """
    preset = find_preset(name)
    names = [file["path"] for file in preset.files]
    if len(given) == len(names) == 1 and given[0].is_file():
        return list(given)
    spec = find_spec(preset.package) if preset.package and not given else None
    roots = [Path(root, preset.folder) for root in (spec and spec.submodule_search_locations) or ()]
    nearby = [root / one for root in (*roots, *given) for one in names]
    there = {path.name: path for path in (*nearby, *given) if path.is_file()}
    return [there[one] for one in names] if set(names) <= set(there) else None


def write_preset(name: str, out: Path, given: Sequence[Path] = ()) -> BackboneCard:
    """Write the card of a preset, its files copied to a folder ``name`` beside it.

    ConfigError where the files are not here, or where there is a card already.
    """
    preset = find_preset(name)
    if out.exists():
        raise ConfigError("there is a file already", where=str(out), mend="name another --out")
    found = find_weights(name, given)
    if found is None:
        names = ", ".join(file["path"] for file in preset.files)
        where = ", ".join(map(str, given)) or name
        raise ConfigError(f"{names}: not here", where=where, mend=preset.get)
    hashes = [hash_file(path) for path in found]
    files = [
        file | {"path": f"{name}/{path.name}", "sha256": sha256}
        for file, path, sha256 in zip(preset.files, found, hashes, strict=True)
    ]
    known = hashes == [file.get("sha256") for file in preset.files]
    golden = preset.golden if known else ()
    fields = preset.fields | {"name": name, "files": files, "golden": golden}
    card = BackboneCard.model_validate(fields)
    with storage_errors(out):
        for file, path in zip(card.files, found, strict=True):
            target = out.parent / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            if path.resolve() != target.resolve():
                shutil.copyfile(path, target)
    write_bytes(out, (card.model_dump_json(indent=2) + "\n").encode())
    return card
