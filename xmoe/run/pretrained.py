"""The files of pretrained networks that a run's experts need, kept beside its checkpoints.

A run must answer wherever it is copied to, so it holds its own copy of each network, in a folder
that is named by the hash of its card. In the run's settings such folders are relative to the run,
in memory they are absolute.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

from xmoe.base.config import BackboneSpec, ExpertSpec, RunConfig
from xmoe.base.files import storage_errors

PRETRAINED = "pretrained"


def kept_folder(spec: BackboneSpec) -> str:
    """Where in a run the files of a network lie."""
    digest = hashlib.sha256(spec.card.model_dump_json().encode()).hexdigest()
    return f"{PRETRAINED}/{digest[:16]}"


def kept_files(spec: ExpertSpec) -> list[str]:
    """Where in a run the files lie that an expert needs beside its weights."""
    if not isinstance(spec, BackboneSpec):
        return []
    return [f"{kept_folder(spec)}/{file.path}" for file in spec.card.files]


def locate_pretrained(config: RunConfig, run: Path) -> RunConfig:
    """The settings with the absolute folders of networks in the folder ``run``."""
    return _with_folders(config, lambda spec: str(run.absolute() / spec.folder))


def keep_pretrained(config: RunConfig, run: Path) -> RunConfig:
    """Copy into the folder ``run`` what is not there yet; the settings with folders within it."""
    for spec in config.model.experts:
        if isinstance(spec, BackboneSpec):
            for file in spec.card.files:
                _copy(Path(spec.folder, file.path), run / kept_folder(spec) / file.path)
    return _with_folders(config, kept_folder)


def _copy(source: Path, target: Path) -> None:
    if target.is_file():
        return
    partial = target.with_name(f".{target.name}.tmp")
    with storage_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, partial)
        partial.replace(target)


def _with_folders(config: RunConfig, folder_of: Callable[[BackboneSpec], str]) -> RunConfig:
    experts = tuple(
        spec.model_copy(update={"folder": folder_of(spec)})
        if isinstance(spec, BackboneSpec)
        else spec
        for spec in config.model.experts
    )
    if experts == config.model.experts:
        return config
    model = config.model.model_copy(update={"experts": experts})
    return config.model_copy(update={"model": model})
