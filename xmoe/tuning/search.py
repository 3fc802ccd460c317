"""The folder of a search: the request, every trial, the choice. Plain JSON, resumable.

search.json     the request; a search is resumed only with the same one
recordings.txt  a digest of the recordings, which must be the same too
trials.jsonl    one line per trial, appended by replacing the file
study.journal   Optuna's own log of its suggestions (JSON lines, no pickle)
settings.json   the chosen settings, for ``xmoe train --settings``
pareto.png      accuracy against cost
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic import Field, ValidationError

from xmoe.base.config import Frozen, TrainConfig
from xmoe.base.errors import ConfigError, RunFolderError
from xmoe.base.files import read_json, storage_errors, write_bytes, write_json
from xmoe.pictures.style import to_png
from xmoe.policy.policy import PolicyOverrides
from xmoe.tuning.draw import draw_trials
from xmoe.tuning.pareto import Cost, TuneResult, choose_result, find_front
from xmoe.tuning.space import SearchSpace

PICTURE, SETTINGS = "pareto.png", "settings.json"


class SearchRequest(Frozen):
    """What is searched: the data, the space, how each trial is trained, and what counts as cost."""

    dataset: str
    metadata: str | None = None
    test_fold: int | None = None
    space: SearchSpace = SearchSpace()
    train: TrainConfig = TrainConfig()
    budget: str | float = "accuracy"
    cost: Cost = "mmac"
    most: float | None = Field(default=None, gt=0.0)


class TrainSettings(Frozen):
    """Settings that ``xmoe train --settings`` takes."""

    overrides: PolicyOverrides = PolicyOverrides()
    learning_rate: float = Field(gt=0.0)
    reason: str = ""


class SearchFolder:
    """A search on disk."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @property
    def journal(self) -> Path:
        return self.path / "study.journal"

    @property
    def trials(self) -> Path:
        return self.path / "trials.jsonl"

    @property
    def work(self) -> Path:
        """Where trials keep spectrograms and weights during the search."""
        return self.path / "work"

    @contextmanager
    def claim(self) -> Iterator[None]:
        """Keep other processes out; ConfigError if one is already running."""
        with storage_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(str(self.path / ".lock"), timeout=0):
                yield
        except Timeout as error:
            what = "another `xmoe tune` is running in the folder"
            mend = "wait until it ends, or name another folder with --out"
            raise ConfigError(what, where=str(self.path), mend=mend) from error

    def begin(self, request: SearchRequest, *, resume: bool) -> list[TuneResult]:
        """Write the request; return the trials that are already done.

        Raises ConfigError if the folder holds a search that is not resumed, or another one.
        """
        there = self.path / "search.json"
        if there.exists():
            self._check_same(request, resume=resume)
        else:
            write_json(there, request.model_dump(mode="json"))
        return self.read_results()

    def _check_same(self, request: SearchRequest, *, resume: bool) -> None:
        if not resume:
            mend = "continue it (--resume), or name another folder with --out"
            raise ConfigError("the folder holds a search already", where=str(self.path), mend=mend)
        before: dict[str, Any] = read_json(self.path / "search.json")
        now = request.model_dump(mode="json")
        differ = sorted(name for name in now if before.get(name) != now[name])
        if differ:
            what = f"the search was started with other settings for: {', '.join(differ)}"
            mend = "resume with the same settings, or search into another folder"
            raise ConfigError(what, where=str(self.path), mend=mend)

    def check_recordings(self, hashes: Mapping[str, str]) -> None:
        """Write a digest of the recordings; ConfigError if they were others before.

        ``hashes`` are the digests of the clips' content by clip id.
        """
        rows = "".join(f"{clip} {hashes[clip]}\n" for clip in sorted(hashes))
        digest, path = hashlib.sha256(rows.encode()).hexdigest(), self.path / "recordings.txt"
        if not path.exists():
            write_bytes(path, f"{digest}\n".encode())
        elif path.read_text(encoding="utf-8").strip() != digest:
            what = "the recordings are not those that the search was started with"
            mend = "search into another folder: trials on other recordings do not compare"
            raise ConfigError(what, where=str(self.path), mend=mend)

    def read_results(self) -> list[TuneResult]:
        """Every trial so far; RunFolderError for an unreadable line."""
        path = self.trials
        if not path.exists():
            return []
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
            return [TuneResult.model_validate_json(line) for line in lines]
        except (UnicodeDecodeError, ValidationError) as error:
            mend = "search into another folder"
            raise RunFolderError("a trial cannot be read", where=str(path), mend=mend) from error

    def add_result(self, result: TuneResult) -> None:
        """Append a trial, replacing one of the same number."""
        others = [one for one in self.read_results() if one.number != result.number]
        text = "".join(one.model_dump_json() + "\n" for one in [*others, result])
        write_bytes(self.trials, text.encode())

    def finish(self, request: SearchRequest, results: list[TuneResult]) -> TuneResult:
        """Choose a trial, write settings and picture; returns the chosen trial."""
        chosen = choose_result(results, request.cost, most=request.most)
        settings = TrainSettings(
            overrides=chosen.candidate.overrides(),
            learning_rate=chosen.candidate.learning_rate,
            reason=describe_choice(chosen, results, request),
        )
        write_json(self.path / SETTINGS, settings.model_dump(mode="json"))
        picture = draw_trials(results, chosen, request.cost, most=request.most)
        write_bytes(self.path / PICTURE, to_png(picture))
        return chosen


def describe_choice(chosen: TuneResult, results: list[TuneResult], request: SearchRequest) -> str:
    """The reason for the choice, in words and numbers."""
    front = find_front(results, request.cost)
    unit = "MMAC" if request.cost == "mmac" else "ms"
    bound = "" if request.most is None else f" of those within {request.most:g} {unit}"
    return (
        f"trial {chosen.number}: {chosen.accuracy:.1%} on validation at "
        f"{chosen.cost(request.cost):.2f} {unit}, the cheapest within one standard error of the "
        f"most accurate{bound} (no other trial beats {len(front)} of {len(results)})"
    )


def read_settings(path: str | Path) -> TrainSettings:
    """Read the settings that a search wrote; ConfigError if the file holds none."""
    try:
        return TrainSettings.model_validate(read_json(Path(path)))
    except (RunFolderError, ValidationError) as error:
        mend = "give settings.json of a folder that `xmoe tune` wrote"
        what = "these are not settings for training"
        raise ConfigError(what, where=str(path), mend=mend) from error
