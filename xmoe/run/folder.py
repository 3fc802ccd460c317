"""The run folder: the only module that knows its file names, its schema and its hashes.

    every ``RunFile``
    checkpoints/<name>/stem.safetensors  router.safetensors  expert-<name>.safetensors
                       training.safetensors  held_out.safetensors  state.json
                       run_config.json  manifest.json
    checkpoints/best.json  checkpoints/last.json         pointers, replaced atomically
    pretrained/<hash>-<file>                             networks that experts ask

A checkpoint is written to a temporary folder, synced, listed with its SHA-256 sums in
``manifest.json`` and renamed; only then does a pointer name it. Whenever a process dies, both
pointers name complete checkpoints. A checkpoint that changes the experts holds its settings too:
the pointer then changes both at once, and ``run_config.json`` of the run is a copy. Weights are
safetensors, everything else is JSON: nothing read from disk can run code. Only weights need torch,
which takes seconds to import.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import ValidationError
from safetensors import SafetensorError

from xmoe.base.config import Frozen, RunConfig
from xmoe.base.errors import ConfigError, RunFolderError
from xmoe.base.files import RESTORE, TRAIN_AGAIN, read_json, storage_errors, to_json, write_json
from xmoe.run.pretrained import keep_pretrained, locate_pretrained
from xmoe.run.version import check_version

if TYPE_CHECKING:
    from torch import Tensor

Which = Literal["best", "last"]
Record = TypeVar("Record", bound=Frozen)

ABANDONED_S = 3600.0  # nobody takes so long to write a file
CHECKPOINTS = "checkpoints"
MANIFEST = "manifest.json"
STATE = "state.json"
NO_FILES: Mapping[str, bytes] = {}
STEM, ROUTER, TRAINING = "stem", "router", "training"


class RunFile(StrEnum):
    """The files and folders of a run beside its checkpoints, by what they hold."""

    CONFIG = "run_config.json"
    DATASET = "dataset.json"
    PROFILE = "profile.json"
    CLIPS = "clips.parquet"
    QUARANTINE = "quarantine.csv"
    POLICY = "policy.json"
    OFFERED = "offered.json"
    SPECTRO = "spectro_config.json"
    STORES = "cache"
    CLOSED = "closed_form.json"
    FEATURES = "feature_cache"
    BY_GRADIENT = "by_gradient"
    KNOWN = "known_clips.parquet"
    CONFORMAL = "conformal.json"
    HELD_OUT = "held_out.safetensors"
    HISTORY = "history.jsonl"
    TENSORBOARD = "tensorboard"
    LEARNING_CURVES = "learning_curves.png"
    EVENTS = "events.json"
    GOLDEN = "golden.json"
    SAMPLES = "samples.parquet"
    CORRECTED = "corrected"
    METRICS = "metrics.json"
    USAGE = "expert_usage.json"
    USAGE_PICTURE = "expert_usage.png"
    TRACES = "traces.parquet"
    CONFUSION = "confusion.png"
    CALIBRATION = "calibration.png"
    K_HISTOGRAM = "k_histogram.png"
    ARCHITECTURE = "architecture.txt"
    EXPLANATIONS = "explanations.json"
    ROBUSTNESS = "robustness.json"
    ROBUSTNESS_PICTURE = "robustness.png"
    REPORT = "report.html"


def pointer_file(which: Which) -> str:
    return f"{CHECKPOINTS}/{which}.json"


def expert_part(name: str) -> str:
    return f"expert-{name}"


def answering_parts(experts: Iterable[str]) -> list[str]:
    """Parts of a checkpoint that answer: stem, router and the experts of these names."""
    return [STEM, ROUTER, *map(expert_part, experts)]


def weights_file(part: str) -> str:
    return f"{part}.safetensors"


class RunFolder:
    """Paths, records and checkpoints of one run."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def file(self, name: str) -> Path:
        return self.path / name

    @property
    def checkpoints(self) -> Path:
        return self.path / CHECKPOINTS

    def write_record(self, name: str, record: Any) -> None:
        write_json(self.file(name), record)

    def read_record(self, name: str, kind: type[Record]) -> Record:
        try:
            return kind.model_validate(read_json(self.file(name)))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise RunFolderError(
                f"field {where}: {first['msg']}", where=str(self.file(name)), mend=TRAIN_AGAIN
            ) from error

    def check_version(self) -> None:
        """Raise RunVersionError where the run is of another version.

        Missing or damaged settings pass: whoever reads them reports that.
        """
        path = self.file(RunFile.CONFIG)
        try:
            settings = read_json(path)
        except RunFolderError:
            return
        check_version(
            settings, where=str(path), read_dataset=lambda: read_json(self.file(RunFile.DATASET))
        )

    def read_config(self) -> RunConfig:
        """The run's settings, as the best checkpoint has them.

        RunVersionError where they are of another version.
        """
        self.check_version()
        name: str = RunFile.CONFIG
        if self.exists("best"):
            own = self.checkpoint_folder("best") / RunFile.CONFIG
            if own.is_file():
                name = str(own.relative_to(self.path))
        return locate_pretrained(self.read_record(name, RunConfig), self.path)

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Keep other commands from changing the run; ConfigError where one does.

        The lock is the folder's own and ends with the process. A file system without locks has
        none to give, and refuses nobody.
        """
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                what, mend = "another command is changing this run", "wait until it ends"
                raise ConfigError(what, where=str(self.path), mend=mend) from error
            except OSError as error:
                if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.EBADF):
                    raise
            self._sweep()
            yield
        finally:
            os.close(descriptor)

    def exists(self, which: Which = "best") -> bool:
        return self.file(pointer_file(which)).is_file()

    def save_checkpoint(
        self,
        name: str,
        tensors: Mapping[str, Mapping[str, Tensor]],
        state: Mapping[str, Any],
        *,
        which: tuple[Which, ...] = ("last",),
        config: RunConfig | None = None,
        files: Mapping[str, bytes] = NO_FILES,
    ) -> Path:
        """Write one safetensors file per entry of ``tensors`` plus ``state``, and point to it.

        ``config`` replaces the run's settings from then on; pretrained networks that it names are
        copied into the run. ``files`` lie beside the weights and change with them. Returns the
        checkpoint's folder. The previous checkpoint stays until the new one is named.
        """
        config = None if config is None else keep_pretrained(config, self.path)
        records = {STATE: state} | ({} if config is None else {RunFile.CONFIG: config})
        final = self.checkpoints / name
        while final.exists():  # a pointer may name it: never write over a named checkpoint
            final = final.with_name(f"{final.name}-again")
        temporary = self.checkpoints / f".{name}.{os.getpid()}.tmp"
        with storage_errors(self.checkpoints):
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            try:
                _fill_checkpoint(temporary, tensors, records, files)
                temporary.replace(final)
                _sync_folder(self.checkpoints)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
        for pointer in which:
            write_json(self.file(pointer_file(pointer)), {"folder": final.name})
        if config is not None:
            self.write_record(RunFile.CONFIG, config)
        self._prune()
        return final

    def checkpoint_folder(self, which: Which = "best") -> Path:
        """The folder that a pointer names."""
        pointer = self.file(pointer_file(which))
        begun = self.file(RunFile.CONFIG).is_file()
        if begun and not self.exists("best") and not self.exists("last"):
            what = "the run holds no mixture yet: its training did not end"
            mend = "end it with `xmoe train --resume` on the same data set"
            raise RunFolderError(what, where=str(self.path), mend=mend)
        record = read_json(pointer)
        name = record.get("folder") if isinstance(record, dict) else None
        if not isinstance(name, str) or name in ("", "..") or Path(name).name != name:
            raise RunFolderError("names no checkpoint", where=str(pointer), mend=TRAIN_AGAIN)
        return self.checkpoints / name

    def mixture_file(self, name: str) -> Path:
        """A file that changes with the mixture: beside its weights.

        Runs of earlier releases have it beside their records.
        """
        own = self.checkpoint_folder("best") / name
        return own if own.is_file() else self.file(name)

    def fingerprint(self, which: Which = "best") -> str:
        """Tells one mixture of the run from another: the SHA-256 sum of a checkpoint's manifest.

        The manifest holds the sums of all its files.
        """
        manifest = self.checkpoint_folder(which) / MANIFEST
        try:
            return hashlib.sha256(manifest.read_bytes()).hexdigest()
        except OSError as error:
            what = f"cannot be read: {error.strerror}"
            raise RunFolderError(what, where=str(manifest), mend=TRAIN_AGAIN) from error

    def load_tensors(self, part: str, which: Which = "best") -> dict[str, Tensor]:
        """Tensors of one file of a checkpoint, hash and finiteness checked."""
        folder = self.checkpoint_folder(which)
        sums = _read_sums(folder / MANIFEST)
        name = weights_file(part)
        return load_weights(folder / name, sha256=sums.get(name))

    def load_state(self, which: Which = "last") -> dict[str, Any]:
        """The JSON state of a checkpoint, hash checked."""
        folder = self.checkpoint_folder(which)
        sums = _read_sums(folder / MANIFEST)
        check_sha256(folder / STATE, sums.get(STATE))
        state: dict[str, Any] = read_json(folder / STATE)
        return state

    def _sweep(self) -> None:
        """Remove what commands that were killed while they wrote a file have left behind."""
        oldest = time.time() - ABANDONED_S
        for folder in (self.path, self.checkpoints):
            for path in folder.glob(".*.tmp"):
                with suppress(OSError):  # another command may be faster
                    if path.is_file() and path.stat().st_mtime < oldest:
                        path.unlink()

    def _prune(self) -> None:
        kept = {self.checkpoint_folder(w).name for w in ("best", "last") if self.exists(w)}
        for entry in self.checkpoints.iterdir():
            if entry.is_dir() and entry.name not in kept:
                shutil.rmtree(entry, ignore_errors=True)


def load_weights(path: Path, *, sha256: str | None) -> dict[str, Tensor]:
    """Tensors of a safetensors file.

    Raises RunFolderError where it is missing, damaged, altered, or holds NaN or infinity.
    """
    from safetensors.torch import load_file

    check_sha256(path, sha256)
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise RunFolderError(
            f"not a whole safetensors file: {error}", where=str(path), mend=TRAIN_AGAIN
        ) from error
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise RunFolderError(
                f"weights of {name} are not finite", where=str(path), mend=TRAIN_AGAIN
            )
    return tensors


def check_sha256(path: Path, expected: str | None) -> None:
    """Raise RunFolderError unless the file is there and has the expected SHA-256 sum."""
    if not path.is_file():
        raise RunFolderError("no such file", where=str(path), mend=TRAIN_AGAIN)
    if expected is None:
        raise RunFolderError("the manifest does not list this file", where=str(path))
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise RunFolderError(f"cannot read: {error.strerror}", where=str(path)) from error
    if found != expected:
        what = "the bytes are not those that were written (SHA-256 differs)"
        raise RunFolderError(what, where=str(path), mend=RESTORE)


def _read_sums(manifest: Path) -> dict[str, str]:
    record = read_json(manifest)
    sums = record.get("sha256") if isinstance(record, dict) else None
    if not isinstance(sums, dict):
        raise RunFolderError("lists no files", where=str(manifest), mend=TRAIN_AGAIN)
    return sums


def _fill_checkpoint(
    folder: Path,
    tensors: Mapping[str, Mapping[str, Tensor]],
    records: Mapping[str, Any],
    files: Mapping[str, bytes],
) -> None:
    from safetensors.torch import save

    for part, values in tensors.items():
        plain = {key: value.detach().cpu().contiguous() for key, value in values.items()}
        # The library's own writer would keep the file from all other users of a shared folder.
        (folder / weights_file(part)).write_bytes(save(plain))
    for name, record in records.items():
        (folder / name).write_text(to_json(record), encoding="utf-8")
    for name, content in files.items():
        (folder / name).write_bytes(content)
    sums = {}
    for path in sorted(folder.iterdir()):
        sums[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
        _sync_file(path)
    manifest = folder / MANIFEST
    manifest.write_text(to_json({"schema_version": 1, "sha256": sums}), encoding="utf-8")
    _sync_file(manifest)
    _sync_folder(folder)


def _sync_file(path: Path) -> None:
    with path.open("rb") as handle:
        os.fsync(handle.fileno())


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
