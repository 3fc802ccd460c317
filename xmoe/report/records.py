"""A run folder -> its records, read on first use: a damaged one costs one part of the report."""

from __future__ import annotations

import csv
import json
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from xmoe.base.config import RunConfig
from xmoe.base.errors import RunFolderError
from xmoe.base.files import read_json
from xmoe.policy.records import Policy
from xmoe.profile.profile import Profile, read_profile
from xmoe.run.folder import RunFile, RunFolder

Row = dict[str, Any]
CLIP_COLUMNS = [
    "clip_id",
    "filepath",
    "start_s",
    "end_s",
    "split",
    "group",
    "snr_db",
    "content_sha256",
]


class RunRecords:
    """The records of a run folder; one that is missing or damaged raises RunFolderError."""

    def __init__(self, run: str | Path) -> None:
        self.folder = RunFolder(run)

    @property
    def name(self) -> str:
        return self.folder.path.resolve().name

    @cached_property
    def config(self) -> RunConfig:
        return self.folder.read_config()

    @cached_property
    def metrics(self) -> Row:
        return self._object(RunFile.METRICS)

    @cached_property
    def outdated(self) -> str:
        """That the run has changed since its figures on test were measured; empty if not."""
        there = self.folder.file(RunFile.METRICS).is_file() and self.folder.exists()
        measured = self.metrics.get("mixture") if there else None
        if measured is None or measured == self.folder.fingerprint():
            return ""
        return (
            f"{self.name} has changed since its figures on test were measured (xmoe expert, update "
            "or calibrate): they are those of before, and `xmoe eval` tells those of now"
        )

    @cached_property
    def usage(self) -> Row:
        return self._object(RunFile.USAGE)

    @cached_property
    def robustness(self) -> Row:
        """Accuracy under noise, clipping and more; only where it was measured."""
        return self._object(RunFile.ROBUSTNESS)

    @cached_property
    def dataset(self) -> Row:
        """Where the recordings were, and what was assumed of them."""
        return self._object(RunFile.DATASET)

    @cached_property
    def profile(self) -> Profile:
        return read_profile(self.folder.file(RunFile.PROFILE))

    @cached_property
    def policy(self) -> Policy:
        return self.folder.read_record(RunFile.POLICY, Policy)

    @cached_property
    def closed_form(self) -> Row | None:
        """The record of a fit in closed form, None for a run trained by gradient."""
        there = self.folder.file(RunFile.CLOSED).is_file()
        return self._object(RunFile.CLOSED) if there else None

    @cached_property
    def history(self) -> list[Row]:
        """One record per epoch: of the run, or of the network beside a fit in closed form."""
        beside = self.closed_form is not None
        lines = self._text(
            f"{RunFile.BY_GRADIENT}/{RunFile.HISTORY}" if beside else RunFile.HISTORY
        ).splitlines()
        return [json.loads(line) for line in lines if line.strip()]

    @cached_property
    def quarantine(self) -> list[Row]:
        return list(csv.DictReader(self._text(RunFile.QUARANTINE).splitlines()))

    @cached_property
    def architecture(self) -> str:
        return self._text(RunFile.ARCHITECTURE)

    @cached_property
    def traces(self) -> list[Row]:
        """One row per test clip: the answer, and which experts were asked."""
        return self._rows(RunFile.TRACES)

    @cached_property
    def clips(self) -> dict[str, Row]:
        """Clip id -> its part of a file, split, SNR and the hash of its content."""
        rows = self._rows(RunFile.CLIPS, columns=CLIP_COLUMNS)
        return {str(row["clip_id"]): row for row in rows}

    def _object(self, name: str) -> Row:
        value = read_json(self.folder.file(name))
        if not isinstance(value, dict):
            raise RunFolderError("not a JSON object", where=str(self.folder.file(name)))
        return value

    def _text(self, name: str) -> str:
        path = self.folder.file(name)
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise RunFolderError(f"cannot be read: {error}", where=str(path)) from error

    def _rows(self, name: str, columns: list[str] | None = None) -> list[Row]:
        path = self.folder.file(name)
        try:
            rows: list[Row] = pq.read_table(path, columns=columns).to_pylist()
        except (OSError, ValueError, pa.ArrowException) as error:
            raise RunFolderError(f"cannot be read: {error}", where=str(path)) from error
        return rows
