"""What users say about answers -> a table beside the run, and the sounds where that is allowed.

Nothing here changes a run: the table is a manifest for `xmoe update`, whenever somebody decides to
use it. Labels that the run does not know go into a table of their own, since only a new training
can take them. Every router writes the same files, one at a time and as a whole. Nothing from
outside names a file on disk, and no cell is a formula to a spreadsheet.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from filelock import FileLock, Timeout
from pydantic import Field

from xmoe.audio.clip import Clip
from xmoe.audio.tables import MISSING
from xmoe.base.config import Frozen
from xmoe.base.errors import InputError, StorageError
from xmoe.base.files import storage_errors, to_csv, write_bytes
from xmoe.run.folder import RunFile
from xmoe.serve.guard.problems import HttpProblem, busy
from xmoe.serve.settings import ServeSettings

KNOWN_LABELS, NEW_LABELS, SOUNDS, LOCK = "corrections.csv", "new_labels.csv", "sounds", ".lock"
COLUMNS = (
    "filepath",
    "start_s",
    "end_s",
    "label",
    "answer",
    "probability",
    "split",
    "name",
    "sound_sha256",
    "when",
    "by",
    "weights_sha256",
)
MOST_ROWS = 20_000
LOCK_S = 20.0
# Where a spreadsheet would see a formula, full-width forms included.
FORMULA = "=+-@\uff1d\uff0b\uff0d\uff20"
# Control characters and separators of cells, labels or folders.
UNFIT = re.compile(r'[\x00-\x1f\x7f-\x9f\u2028\u2029;|"/\\]')
Label = Annotated[str, Field(min_length=1, max_length=100)]
NOT_KEPT = "the sound itself is not kept: only its name and its hash (corrections.keep_sounds)"


class Correction(Frozen):
    """What a user says about an answer: the right labels, those of the answer or others.

    ``answer``, ``probability`` and ``weights_sha256`` are those of the answer; ``start_s`` to
    ``end_s`` is its window, left out for the whole recording. ``name`` is the file's.
    """

    labels: tuple[Label, ...] = Field(min_length=1, max_length=64)
    answer: tuple[Label, ...] = Field(max_length=64)
    probability: float = Field(ge=0.0, le=1.0)
    name: str = Field(default="", max_length=1024)
    start_s: float | None = Field(default=None, ge=0.0)
    end_s: float | None = Field(default=None, gt=0.0)
    weights_sha256: str = Field(default="", pattern="^[0-9a-f]{0,64}$")


class Corrected(Frozen):
    """What was written: the table, and the path in it; ``note`` says what is not kept."""

    table: str
    filepath: str
    label: str
    sound_sha256: str
    sound_kept: bool
    note: str = ""


def folder_of(settings: ServeSettings) -> Path | None:
    """Where corrections go, None where none are taken or there is no place for them."""
    asked = settings.corrections
    if not asked.enabled:
        return None
    if asked.folder is not None:
        return Path(asked.folder)
    writable = "://" not in settings.run and os.access(settings.run, os.W_OK)
    return Path(settings.run) / RunFile.CORRECTED if writable else None


class Corrections:
    """Takes corrections of a run with these classes.

    ``known`` gives the hashes of the sounds that the run was made from: corrections of these go to
    the test split, so that an update does not train on what the run was measured with.
    """

    def __init__(
        self,
        settings: ServeSettings,
        classes: Sequence[str],
        *,
        several: bool,
        known: Callable[[], frozenset[str]],
    ) -> None:
        self.folder = folder_of(settings)
        self.keeps_sounds = settings.corrections.keep_sounds
        self._most_bytes = settings.corrections.max_mb * 1_000_000
        self._classes = frozenset(classes)
        self._several = several
        self._known = known

    @property
    def kept(self) -> Literal["off", "hash", "sound"]:
        if self.folder is None:
            return "off"
        return "sound" if self.keeps_sounds else "hash"

    def keep(self, data: bytes, clip: Clip, given: Correction, by: str) -> Corrected:
        """Write a correction, in place of an earlier one of the same recording.

        InputError for a correction that cannot be right, HttpProblem where there is no room,
        StorageError where the folder cannot be written.
        """
        if self.folder is None:
            hint = "the operator can set corrections.folder, or make the run writable"
            raise HttpProblem(404, "not_kept", "corrections are not taken here", hint=hint)
        self._check(given)
        span = span_of(given, clip.duration_s)
        name, sha256 = clean_name(given.name), clip.content_sha256
        path = f"{SOUNDS}/{sha256[:32]}.{clip.info.format.lower()}" if self.keeps_sounds else name
        row = (
            path,
            *span,
            ";".join(given.labels),
            ";".join(given.answer),
            f"{given.probability:.4f}",
            "test" if sha256 in self._known() else "train",
            name,
            sha256,
            datetime.now(UTC).isoformat(timespec="seconds"),
            by,
            given.weights_sha256[:12],
        )
        table = KNOWN_LABELS if self._classes.issuperset(given.labels) else NEW_LABELS
        with storage_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                lock = FileLock(self.folder / LOCK).acquire(timeout=LOCK_S)
            except Timeout as error:
                raise busy(1) from error
        with lock, storage_errors(self.folder):
            self._write(table, dict(zip(COLUMNS, row, strict=True)), data)
        note = "" if self.keeps_sounds else NOT_KEPT
        return Corrected(
            table=table,
            filepath=path,
            label=";".join(given.labels),
            sound_sha256=sha256,
            sound_kept=self.keeps_sounds,
            note=note,
        )

    def _check(self, given: Correction) -> None:
        if strange := sorted(set(given.answer) - self._classes):
            raise InputError(f"no class {strange[0]!r}", where="answer", mend="see /v1/model")
        if len(given.labels) > 1 and not self._several:
            raise InputError("several labels", where="labels", mend="a recording has one here")
        for label in set(given.labels) - self._classes:
            bad = UNFIT.search(label) or label[0] in FORMULA or label.casefold() in MISSING
            if bad or label != label.strip():
                raise InputError(
                    "a new label is not usable as written",
                    where="labels",
                    mend='use a word, without ; | " / \\ and without =, +, - or @ before it',
                )

    def _write(self, table: str, row: dict[str, str], data: bytes) -> None:
        """Write sound and row, under the lock; replaces another row of the same part.

        A refusal changes nothing, and the new row is there before the old one goes.
        """
        assert self.folder is not None
        self._check_room(len(data) if self.keeps_sounds else 0)
        changed = {}
        for name in sorted((KNOWN_LABELS, NEW_LABELS), key=lambda name: name != table):
            before = read_rows(self.folder / name)
            rows = [one for one in before if part_of(one) != part_of(row)]
            rows += [row] if name == table else []
            if len(rows) > MOST_ROWS:
                raise full(f"{name} has {MOST_ROWS} rows")
            if rows != before:
                changed[name] = rows
        if self.keeps_sounds and not (self.folder / row["filepath"]).exists():
            write_bytes(self.folder / row["filepath"], data)
        for name, rows in changed.items():
            write_bytes(self.folder / name, to_csv([COLUMNS, *(one.values() for one in rows)]))

    def _check_room(self, more: int) -> None:
        assert self.folder is not None
        held = sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())
        if held + more > self._most_bytes:
            raise full(f"the folder holds {self._most_bytes // 1_000_000} MB")


def full(what: str) -> HttpProblem:
    hint = "the operator can move old corrections away, or raise corrections.max_mb"
    return HttpProblem(507, "full", f"no more corrections are kept: {what}", hint=hint)


def span_of(given: Correction, duration_s: float) -> tuple[str, str]:
    """Start and end of the part as table cells; empty for the whole recording."""
    start_s = given.start_s or 0.0
    end_s = min(duration_s if given.end_s is None else given.end_s, duration_s)
    if start_s >= end_s:
        what = f"there is nothing from {start_s:g} to {end_s:g} s"
        raise InputError(what, where="start_s", mend=f"the recording has {duration_s:.3f} s")
    if start_s == 0.0 and end_s == duration_s:
        return "", ""
    return f"{start_s:.9g}", f"{end_s:.9g}"


def clean_name(name: str) -> str:
    """The last part of a file's name, as a path that leads nowhere and is no formula."""
    last = re.split(r"[/\\]", name)[-1]
    last = UNFIT.sub("_", last).strip()[:200]
    if last in ("", ".", ".."):
        return "recording"
    return f"./{last}" if last[0] in FORMULA or last.casefold() in MISSING else last


def part_of(row: dict[str, str]) -> tuple[str, ...]:
    """What a row is about: a sound, or a part of it."""
    return row["sound_sha256"], row["start_s"], row["end_s"]


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a table; StorageError where something else has changed its columns."""
    if not path.exists():
        return []
    with storage_errors(path):
        reader = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8", errors="replace")))
        rows = list(reader)
    if tuple(reader.fieldnames or ()) != COLUMNS or any(None in row for row in rows):
        mend = "move it away, and a new one is started"
        raise StorageError("has other columns than it should", where=str(path), mend=mend)
    return rows
