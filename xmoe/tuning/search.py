"""The folder of a search: what was asked, every trial, the choice. Plain JSON, resumable.

search.json     what was asked; a search is gone on with only by the same
recordings.txt  a digest of the recordings; nor on others
trials.jsonl    one line per trial, appended by replacing the file
study.journal   Optuna's own log of what it suggested (JSON lines, no pickle)
settings.json   the chosen settings, which ``xmoe train --settings`` takes
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
        """Optuna's log."""
        return self.path / "study.journal"

    @property
    def trials(self) -> Path:
        """One line per finished trial."""
        return self.path / "trials.jsonl"

    @property
    def work(self) -> Path:
        """Where trials keep spectrograms and weights while the search goes on."""
        return self.path / "work"

    @contextmanager
    def claim(self) -> Iterator[None]:
        """Keep other processes out; ConfigError where one is at work."""
        with storage_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(str(self.path / ".lock"), timeout=0):
                yield
        except Timeout as error:
            raise ConfigError(
                "another `xmoe tune` is at work in the folder",
                where=str(self.path),
                mend="wait for its end, or name another folder with --out",
            ) from error

    def begin(self, request: SearchRequest, *, resume: bool) -> list[TuneResult]:
        """Write what is asked down; return the trials that are done already.

        Raises ConfigError where the folder holds a search that is not resumed, or another one.
        """
        there = self.path / "search.json"
        if there.exists():
            self._check_same(request, resume=resume)
        else:
            write_json(there, request.model_dump(mode="json"))
        return self.read_results()

    def _check_same(self, request: SearchRequest, *, resume: bool) -> None:
        if not resume:
            raise ConfigError(
                "the folder holds a search already",
                where=str(self.path),
                mend="go on with it (--resume), or name another folder with --out",
            )
        before: dict[str, Any] = read_json(self.path / "search.json")
        now = request.model_dump(mode="json")
        differ = sorted(name for name in now if before.get(name) != now[name])
        if differ:
            raise ConfigError(
                f"the search was begun with other settings for: {', '.join(differ)}",
                where=str(self.path),
                mend="resume with the same settings, or search into another folder",
            )

    def check_recordings(self, hashes: Mapping[str, str]) -> None:
        """Note which recordings are searched on; ConfigError where they were others before.

        ``hashes`` are the digests of the clips' content by clip id.
        """
        rows = "".join(f"{clip} {hashes[clip]}\n" for clip in sorted(hashes))
        digest, path = hashlib.sha256(rows.encode()).hexdigest(), self.path / "recordings.txt"
        if not path.exists():
            write_bytes(path, f"{digest}\n".encode())
        elif path.read_text(encoding="utf-8").strip() != digest:
            raise ConfigError(
                "the recordings are not those that the search was begun with",
                where=str(self.path),
                mend="search into another folder: trials on other recordings do not compare",
            )

    def read_results(self) -> list[TuneResult]:
        """Return every trial so far; RunFolderError for a line that is none."""
        path = self.trials
        if not path.exists():
            return []
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
            return [TuneResult.model_validate_json(line) for line in lines]
        except (UnicodeDecodeError, ValidationError) as error:
            raise RunFolderError(
                "a trial cannot be read", where=str(path), mend="search into another folder"
            ) from error

    def add_result(self, result: TuneResult) -> None:
        """Write one more trial down; one of the same number is replaced."""
        others = [one for one in self.read_results() if one.number != result.number]
        text = "".join(one.model_dump_json() + "\n" for one in [*others, result])
        write_bytes(self.trials, text.encode())

    def finish(self, request: SearchRequest, results: list[TuneResult]) -> TuneResult:
        """Choose, write settings and picture; returns the chosen trial."""
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
    """Return the reason for the choice, in words and numbers."""
    front = find_front(results, request.cost)
    unit = "MMAC" if request.cost == "mmac" else "ms"
    bound = "" if request.most is None else f" of those within {request.most:g} {unit}"
    return (
        f"trial {chosen.number}: {chosen.accuracy:.1%} on validation at "
        f"{chosen.cost(request.cost):.2f} {unit}, the cheapest within one standard error of the "
        f"most accurate{bound} ({len(front)} of {len(results)} trials are beaten by none)"
    )


def read_settings(path: str | Path) -> TrainSettings:
    """Return settings that a search wrote; ConfigError where the file holds none."""
    try:
        return TrainSettings.model_validate(read_json(Path(path)))
    except (RunFolderError, ValidationError) as error:
        raise ConfigError(
            "these are no settings for training",
            where=str(path),
            mend="give settings.json of a folder that `xmoe tune` wrote",
        ) from error
