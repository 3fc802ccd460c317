"""Which runs were deployed, which one is served and which is on trial: a folder of small files.

    REGISTRY/APP/000001.json, 000002.json, ...

Each file is the whole state after one change, with who made it, when and why; the last one counts,
and none is ever overwritten. So the folder is its own history, a reader never sees half a change,
and of two people who change it at once the second gets an error. Like runs, it lies at a path or in
a bucket, and every node must see it: routers read from it what is on trial.
"""

from __future__ import annotations

import getpass
import socket
from contextlib import suppress
from datetime import UTC, datetime
from typing import Literal

from pydantic import Field, ValidationError

from xmoe.base.config import Frozen
from xmoe.base.errors import ConfigError, StorageError
from xmoe.base.files import to_json
from xmoe.serve.settings import ServeSettings
from xmoe.storage.place import Place, open_place

Mode = Literal["shadow", "canary"]
What = Literal[
    "nothing",
    "rolling out",
    "deployed",
    "on trial",
    "promoted",
    "trial ended",
    "rolled back",
    "failed",
]
_NAME = "{:06d}.json"
_AGAIN = "look at `xmoe versions`, then try again"


class Version(Frozen):
    """A run as it was deployed: its settings, the weights that were checked, and its figure."""

    number: int
    settings: ServeSettings
    weights_sha256: str
    figures: dict[str, float] = Field(default_factory=dict)
    by: str
    at: str
    why: str = ""


class TrialPlan(Frozen):
    """How a version is tried: ``shadow`` answers beside, ``canary`` answers a ``share`` itself."""

    version: int
    mode: Mode
    share: float = Field(default=1.0, gt=0.0, le=1.0)


class Change(Frozen):
    """What was done to which version, by whom, when, why, and how it ended."""

    what: What = "nothing"
    version: int | None = None
    by: str = ""
    at: str = ""
    why: str = ""
    note: str = ""


class State(Frozen):
    """All versions and the aliases: ``production``, ``candidate``; ``past`` productions in order.

    ``rolling`` is the version being rolled out. If a killed command left it behind, what runs is
    unknown.
    """

    schema_version: Literal[1] = 1
    serial: int = 0
    versions: tuple[Version, ...] = ()
    production: int | None = None
    candidate: int | None = None
    past: tuple[int, ...] = ()
    rolling: int | None = None
    trial: TrialPlan | None = None
    change: Change = Change()

    def version(self, number: int) -> Version:
        return self.versions[number - 1]

    @property
    def served(self) -> Version | None:
        """The production version, None before the first."""
        return None if self.production is None else self.version(self.production)


class Registry:
    """The states of one application, at a path or an address."""

    def __init__(self, address: str, app: str) -> None:
        self.place: Place = open_place(address) / app
        self.by = describe_caller()

    @property
    def address(self) -> str:
        """Where other processes can read it."""
        return self.place.address

    def read(self) -> State:
        """The last state; an empty one before the first deployment."""
        return read_state(self.place)

    def write(self, state: State, change: Change) -> State:
        """Write the successor of ``state``; ConfigError where somebody else wrote one first."""
        change = change.model_copy(update={"by": self.by, "at": now()})
        made = state.model_copy(update={"serial": state.serial + 1, "change": change})
        place = self.place / _NAME.format(made.serial)
        data = to_json(made).encode()
        taken = ConfigError(
            f"{self.place.shown} was changed by somebody else meanwhile", mend=_AGAIN
        )
        if place.is_local:
            try:
                place.path.parent.mkdir(parents=True, exist_ok=True)
                with place.path.open("xb") as file:
                    file.write(data)
            except FileExistsError:
                raise taken from None
            except OSError as error:
                what = f"cannot write: {error.strerror}"
                mend = "name a registry that you may write to (--registry)"
                raise StorageError(what, where=place.shown, mend=mend) from error
        else:
            if place.kind() != "nothing":
                raise taken
            place.write(data)
        return made


def read_state(place: Place) -> State:
    """The last state in a folder; ConfigError where it cannot be read."""
    if place.kind() == "nothing":
        return State()
    names = [found.name for found in place.walk() if found.name.endswith(".json")]
    if not names:
        return State()
    last = place / max(names)
    try:
        return State.model_validate_json(last.read())
    except (ValidationError, FileNotFoundError) as error:
        mend = "name another registry, or move this file away: the one before then counts"
        raise ConfigError("is not a state of a registry", where=last.shown, mend=mend) from error


def find_trial(registry: str | None) -> TrialPlan | None:
    """What is on trial, by the registry that a router was given; InputError if unreadable."""
    return None if registry is None else read_state(open_place(registry)).trial


def describe_caller() -> str:
    """Who changes a registry, as USER@HOST."""
    user = "unknown"
    with suppress(OSError, KeyError, ImportError):
        user = getpass.getuser()
    return f"{user}@{socket.gethostname()}"


def now() -> str:
    """The time as ISO 8601, in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")
