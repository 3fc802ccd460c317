"""Cards and the files beside them: read, and checked before anything opens them."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import ValidationError

from xmoe.base.backbone import TRUST, BackboneCard, BackboneFile
from xmoe.base.errors import ConfigError

MAX_CARD_BYTES = 1_000_000
MAX_FILE_BYTES = 2_000_000_000  # protobuf, and so ONNX, allows no more


def read_card(path: Path) -> BackboneCard:
    """Read a card; ConfigError names the file and the field that is wrong."""
    mend = "`xmoe backbone init` writes a card"
    try:
        if path.stat().st_size > MAX_CARD_BYTES:
            raise ConfigError("too large for a card", where=str(path), mend=mend)
        card = BackboneCard.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"no card: {error.strerror}", where=str(path), mend=mend) from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        what = f"{field}: {first['msg']}" if field else first["msg"]
        raise ConfigError(
            what, where=str(path), mend="correct the card by hand, or " + mend
        ) from error
    for file in card.files:
        if PurePosixPath(file.path).is_absolute() or ".." in PurePosixPath(file.path).parts:
            what = f"files: {file.path!r} leads out of the card's folder"
            raise ConfigError(what, where=str(path), mend="put the file beside the card")
    return card


def verify_files(card: BackboneCard, folder: Path) -> list[Path]:
    """Paths of a card's files; ConfigError where one is not what the card says."""
    return [_verify(file, folder / file.path) for file in card.files]


def _verify(file: BackboneFile, path: Path) -> Path:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ConfigError(f"more than {MAX_FILE_BYTES} bytes", where=str(path))
        found = hash_file(path)
    except OSError as error:
        mend = "put the file where the card says, from the card's own folder"
        raise ConfigError(f"no weights: {error.strerror}", where=str(path), mend=mend) from error
    if found != file.sha256:
        raise ConfigError(
            f"its SHA-256 is {found[:12]}..., the card says {file.sha256[:12]}...",
            where=str(path),
            mend="get the file again; only if you trust this one, make a card of it",
        )
    return path


@contextmanager
def only_listed(card: BackboneCard, file: BackboneFile, path: Path) -> Iterator[Path]:
    """Yield ``path`` linked into a folder of its own, with the files that the card has beside it.

    Some formats read more files than the one that is opened: unchecked ones are not there.
    """
    beside = PurePosixPath(file.path).parent
    with TemporaryDirectory() as room:
        for one in card.files:
            if PurePosixPath(one.path).is_relative_to(beside):
                name = PurePosixPath(one.path).relative_to(beside)
                Path(room, name).parent.mkdir(parents=True, exist_ok=True)
                Path(room, name).symlink_to(path.absolute().parent / name)
        yield Path(room, path.name)


def hash_file(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def demand_trust(card: BackboneCard, path: Path, trust: Collection[str]) -> None:
    """Raise ConfigError unless the user trusts a file that can run code, or its card, by name."""
    if not {card.name, path.name} & set(trust):
        raise ConfigError(
            f"a file of format {card.format} can run code when it is opened",
            where=str(path),
            mend=f"if you know where it comes from, trust it by name: --trust {card.name}, or "
            f"{TRUST}={card.name} in the environment",
        )


def import_extra(module: str, extra: str) -> Any:
    """Import a package of an extra; ConfigError names the extra where it is missing."""
    try:
        return import_module(module)
    except ImportError as error:
        what = f"{module.partition('.')[0]} is not installed: {error}"
        mend = f"pip install 'xmoe[{extra}]'"
        raise ConfigError(what, where=f"format {extra}", mend=mend) from error
